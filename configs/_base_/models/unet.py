# UNet: Ronneberger et al., 2015.

_base_ = "./encoder_decoder.py"

# ---- often changed ----
deep_supervision = 0.0  # weight of the losses at intermediate resolutions; 0: none

# ---- the rest ----
model = dict(
    decode_head=dict(
        type="aicore.UNetHead",
        num_classes="${num_classes}",
        decoder_channels=(256, 128, 64, 32, 16),  # deepest first
        deep_supervision="${deep_supervision}",
        loss_decode="${losses}",
    ),
)
