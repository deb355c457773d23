"""The scene: a turned disc on a conveyor belt, and the light on it.

All lengths are shares of the picture's side, so that a scene is the same at each size. The metal
is a height field's slopes, a reflectance and a machining direction for each pixel
(:class:`Surface`); defects change these before the light is computed, so that a dent or a
scratch catches the light as the undamaged metal around it does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
"""float32; numpy's and OpenCV's type hints do not follow it through their arithmetic."""

DISC_RADIUS = 0.465
BORE = (0.0, 0.0, 0.06)
PIN_HOLE = (0.0, -0.36, 0.02)
HOLES = (BORE, PIN_HOLE)
"""The part: a turned disc about (0, 0) with two holes, each an x, a y and a radius."""

TEXTURE_EXTENT = 1.6
"""Length that the turning marks' texture covers, more than twice the disc's radius."""


@dataclass
class Surface:
    """The metal before the light is computed, in the part's own frame; arrays are (H, W).

    Attributes:
        x, y: position of each pixel; the part's centre is (0, 0), one is the picture's side.
        pixel: a pixel's side in the same unit.
        metal: share of the pixel that metal covers, in [0, 1].
        slope_x, slope_y: slope of the surface, rise over run.
        grain_x, grain_y: unit vector along the machining marks.
        marks: the machining marks' depth, about zero mean and unit deviation.
        gloss: strength of the mirror-like reflection; 1 is bare metal.
        reflectance: (H, W, 3) diffuse reflectance in blue, green, red.
    """

    x: FloatArray
    y: FloatArray
    pixel: float
    metal: FloatArray
    slope_x: FloatArray
    slope_y: FloatArray
    grain_x: FloatArray
    grain_y: FloatArray
    marks: FloatArray
    gloss: FloatArray
    reflectance: FloatArray


@dataclass(frozen=True)
class Scene:
    """What differs from picture to picture in good parts too; angles in radians."""

    shift: tuple[float, float]
    angle: float
    scale: float
    light: tuple[float, float, float]
    brightness: float
    uneven: tuple[float, float]
    tint: tuple[float, float, float]
    marks_strength: float
    belt_phase: float
    belt_level: float
    blur: float
    noise: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Scene:
        """Draws a scene; the number of draws never depends on the picture's size."""
        azimuth = math.radians(rng.uniform(215, 235))
        distance = rng.uniform(0.6, 0.85)
        uneven_azimuth = rng.uniform(0, 2 * np.pi)
        uneven_strength = rng.uniform(0.05, 0.18)
        warmth = rng.uniform(-0.012, 0.012)
        return cls(
            shift=(rng.uniform(-0.012, 0.012), rng.uniform(-0.012, 0.012)),
            angle=math.radians(rng.uniform(-8, 8)),
            scale=rng.uniform(0.98, 1.02),
            light=(
                distance * math.cos(azimuth),
                distance * math.sin(azimuth),
                rng.uniform(1.2, 1.6),
            ),
            brightness=rng.uniform(0.93, 1.06),
            uneven=(
                uneven_strength * math.cos(uneven_azimuth),
                uneven_strength * math.sin(uneven_azimuth),
            ),
            tint=(1.01 - warmth, 1.0, 0.985 + warmth),
            marks_strength=rng.uniform(0.25, 0.5),
            belt_phase=rng.uniform(0, 2 * np.pi),
            belt_level=rng.uniform(0.9, 1.1),
            blur=rng.uniform(0.0006, 0.0018),
            noise=rng.uniform(1.0, 2.2),
        )


def clearance(x: FloatArray, y: FloatArray) -> FloatArray:
    """Distance from a point on the metal to the nearest edge or hole; negative off the metal."""
    nearest = DISC_RADIUS - np.hypot(x, y)
    for hole_x, hole_y, radius in HOLES:
        nearest = np.minimum(nearest, np.hypot(x - hole_x, y - hole_y) - radius)
    return nearest


def picture_grid(size: int) -> tuple[FloatArray, FloatArray]:
    """Positions of the pixels' centres, (size, size) each, from -0.5 to 0.5."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def machine_part(scene: Scene, size: int, rng: np.random.Generator) -> Surface:
    """Builds the metal of a good part: its turning marks and its bevelled edges."""
    picture_x, picture_y = picture_grid(size)
    shifted_x, shifted_y = picture_x - scene.shift[0], picture_y - scene.shift[1]
    cos, sin = math.cos(scene.angle) / scene.scale, math.sin(scene.angle) / scene.scale
    x = (cos * shifted_x + sin * shifted_y).astype(np.float32)
    y = (cos * shifted_y - sin * shifted_x).astype(np.float32)
    pixel = 1 / (size * scene.scale)

    radius = np.maximum(np.hypot(x, y), pixel)
    around = np.arctan2(y, x) * (TEXTURE_EXTENT / (2 * np.pi))
    marks = scene.marks_strength * _marks(rng, size, along=around, across=radius)
    mottle = _mottle(rng, size, cells=7)
    reflectance = 1 + 0.025 * marks + 0.035 * mottle
    surface = Surface(
        x=x,
        y=y,
        pixel=pixel,
        metal=_cover(clearance(x, y) / pixel),
        slope_x=np.zeros_like(x),
        slope_y=np.zeros_like(x),
        grain_x=-y / radius,
        grain_y=x / radius,
        marks=marks,
        gloss=np.ones_like(x),
        reflectance=np.repeat(reflectance[..., None], 3, axis=2),
    )
    for hole in HOLES:
        _bevel(surface, hole, width=0.014, slope=0.35)
    _bevel(surface, (0.0, 0.0, DISC_RADIUS - 0.014), width=0.014, slope=-0.4)
    return surface


def light_picture(
    scene: Scene, surface: Surface, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Lights the part on its belt and takes the picture, (size, size, 3) BGR of 0..255."""
    cos, sin = math.cos(scene.angle), math.sin(scene.angle)
    light_x = cos * scene.light[0] + sin * scene.light[1]
    light_y = cos * scene.light[1] - sin * scene.light[0]
    metal = _lit_metal(surface, (light_x, light_y, scene.light[2]))
    metal *= np.array(scene.tint, np.float32)

    belt = _belt(scene, size, rng)
    # The disc's shadow falls away from the light; little light falls through the holes.
    away = np.hypot(surface.x + 0.05 * light_x, surface.y + 0.05 * light_y)
    shadow = _cover((DISC_RADIUS - away) / 0.05)
    under_disc = np.hypot(surface.x, surface.y) < DISC_RADIUS
    belt *= np.where(under_disc, 0.45, 1 - 0.6 * shadow)[..., None]

    picture = belt + surface.metal[..., None] * (metal - belt)
    picture_x, picture_y = picture_grid(size)
    uneven = 1 + scene.uneven[0] * picture_x + scene.uneven[1] * picture_y
    vignette = 1 - 0.25 * (picture_x**2 + picture_y**2)
    picture *= (scene.brightness * uneven * vignette)[..., None]
    sigma = scene.blur * size
    if sigma > 0.15:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    # A soft shoulder instead of hard clipping: highlights keep their texture.
    bright = picture > 0.8
    picture[bright] = 0.8 + 0.2 * np.tanh((picture[bright] - 0.8) / 0.2)
    grain = rng.standard_normal((size, size, 1), dtype=np.float32)
    colour_grain = rng.standard_normal((size, size, 3), dtype=np.float32)
    picture = picture * 255 + scene.noise * (0.85 * grain + 0.5 * colour_grain)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _lit_metal(surface: Surface, light: tuple[float, float, float]) -> FloatArray:
    """Diffuse light and Ward's anisotropic reflection (Ward 1992), (H, W, 3)."""
    to_x, to_y = light[0] - surface.x, light[1] - surface.y
    norm = np.sqrt(to_x**2 + to_y**2 + light[2] ** 2)
    facing = (light[2] - to_x * surface.slope_x - to_y * surface.slope_y) / (
        norm * np.sqrt(1 + surface.slope_x**2 + surface.slope_y**2)
    )
    # Slope that a facet needs to mirror the light into the camera, less the surface's own.
    half_z = light[2] + norm
    want_x = to_x / half_z + surface.slope_x
    want_y = to_y / half_z + surface.slope_y
    along = want_x * surface.grain_x + want_y * surface.grain_y
    across = want_y * surface.grain_x - want_x * surface.grain_y + 0.09 * surface.marks
    mirror = np.exp(-((along / 0.16) ** 2) - (across / 0.42) ** 2)
    diffuse = 0.16 + 0.34 * np.maximum(facing, 0)
    shine = 0.5 * surface.gloss * mirror * (1 + 0.06 * surface.marks)
    return surface.reflectance * (diffuse + shine)[..., None]


def _belt(scene: Scene, size: int, rng: np.random.Generator) -> FloatArray:
    """The conveyor belt: dark ribbed rubber, (size, size, 3)."""
    _, picture_y = picture_grid(size)
    ribs = np.sin(picture_y * (2 * np.pi / 0.055) + scene.belt_phase)
    level = scene.belt_level * (0.16 + 0.008 * ribs + 0.006 * _mottle(rng, size, cells=48))
    return level[..., None] * np.array((1.2, 1.02, 0.85), np.float32)


def _marks(
    rng: np.random.Generator, size: int, along: FloatArray, across: FloatArray
) -> FloatArray:
    """Machining marks: noise long in one direction and of all widths in the other.

    Args:
        rng: source of the noise; the number of draws does not depend on ``size``.
        size: the picture's side in pixels, to leave out what is finer than a pixel.
        along: (H, W) position along the marks; the noise repeats after ``TEXTURE_EXTENT``.
        across: (H, W) position across the marks.
    """
    rows, columns = 1024, 12
    noise: FloatArray = np.zeros((rows, columns), np.float32)
    for octave in (32, 64, 128, 256, 512, 1024):
        layer = rng.standard_normal((octave, columns), dtype=np.float32)
        noise += cv2.resize(layer, (columns, rows), interpolation=cv2.INTER_LINEAR)
    noise *= 0.45
    rows = min(rows, round(TEXTURE_EXTENT * size))
    noise = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_AREA)
    column = (along / TEXTURE_EXTENT + 0.5) * columns
    row = (across / TEXTURE_EXTENT + 0.5) * rows
    return cv2.remap(noise, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _mottle(rng: np.random.Generator, size: int, cells: int) -> FloatArray:
    """Smooth blotches, ``cells`` along a side, about unit deviation, (size, size)."""
    noise = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def _bevel(
    surface: Surface, circle: tuple[float, float, float], width: float, slope: float
) -> None:
    """Adds a ring of a slope around a circle; the surface rises outwards if positive."""
    from_x, from_y = surface.x - circle[0], surface.y - circle[1]
    distance = np.maximum(np.hypot(from_x, from_y), surface.pixel)
    ring = _band(distance - circle[2], width, surface.pixel) * (slope / distance)
    surface.slope_x += ring * from_x
    surface.slope_y += ring * from_y


def _cover(distance: FloatArray) -> FloatArray:
    """Share of a pixel inside an edge, from the signed distance in pixels."""
    return np.clip(distance + 0.5, 0, 1).astype(np.float32)


def _band(distance: FloatArray, width: float, pixel: float) -> FloatArray:
    """Share of a pixel where 0 < distance < width; the edges are rounded, as on real metal."""
    soft = max(pixel, 0.009)
    return _cover(distance / soft) - _cover((distance - width) / soft)
