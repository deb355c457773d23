"""Classifies images, from python; with class-activation maps on request."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from aicore.engine.inferencer import ImageInput, Inferencer
from aicore.errors import AicoreError, ImageError


class ClassificationInferencer(Inferencer):
    """Classifies image files and arrays. See :class:`aicore.engine.inferencer.Inferencer`.

    A prediction is ``{'image', 'inspected', 'prediction', 'pred_score', 'pred_scores'}``.
    """

    def activation_map(self, image: ImageInput) -> np.ndarray:
        """Returns the image with a heat map over it: where the predicted class comes from.

        Grad-CAM of the last feature maps, by the library ``grad-cam``.
        Source: Selvaraju et al., Grad-CAM, ICCV 2017.

        Args:
            image: File or array.

        Returns:
            HxWx3 uint8, BGR, in the size of the image.

        Raises:
            ImageError: The file cannot be read.
            AicoreError: ``grad-cam`` is not installed, or the model has no feature maps.
        """
        try:
            from pytorch_grad_cam import GradCAM
            from pytorch_grad_cam.utils.image import show_cam_on_image
        except ImportError as error:
            raise AicoreError(
                "class-activation maps need the package grad-cam: pip install -e '.[optional]'"
            ) from error
        pixels, reason = self._read(image)
        if reason is not None:
            raise ImageError(str(image), reason)
        batch = self.collate_fn([self.pipeline({"img_path": self._name(image), "img": pixels})])
        inputs = self.model.data_preprocessor(batch)["inputs"]
        with GradCAM(model=self.model, target_layers=[self._last_feature_layer(inputs)]) as cam:
            heat = cam(input_tensor=inputs, targets=None)[0]  # of the predicted class
        shown = self._shown(pixels)
        heat = cv2.resize(heat, shown.shape[1::-1])
        return show_cam_on_image(shown / np.float32(255), heat, use_rgb=False)

    def _last_feature_layer(self, inputs: Tensor) -> nn.Module:
        """Returns the last layer whose output still has height and width, in any network."""
        last: list[nn.Module] = []

        def note(module: nn.Module, _: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
                last[:] = [module]

        leaves = [module for module in self.model.modules() if not any(module.children())]
        handles = [module.register_forward_hook(note) for module in leaves]
        with torch.no_grad():
            self.model(inputs)
        for handle in handles:
            handle.remove()
        if not last:
            raise AicoreError("class-activation maps need a model with feature maps (a CNN).")
        return last[0]
