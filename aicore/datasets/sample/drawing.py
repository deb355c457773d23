"""The scene: a machined flange on a conveyor belt, and the light on it.

All lengths are shares of the picture's side, so that a scene is the same at each size. The metal
is a height field's slopes, a reflectance and a machining direction for each pixel
(:class:`Surface`); defects change these before the light is computed, so that a dent or a
scratch catches the light as the undamaged metal around it does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

PLATE_HALF_SIDE = 0.405
PLATE_CORNER_RADIUS = 0.1
BOSS_RADIUS = 0.225
BORE_RADIUS = 0.115
BOLT_RADIUS = 0.042
BOLT_OFFSET = 0.285
SPOTFACE_RADIUS = 0.074
BOLTS = tuple((x, y) for x in (-BOLT_OFFSET, BOLT_OFFSET) for y in (-BOLT_OFFSET, BOLT_OFFSET))

TEXTURE_EXTENT = 1.6
"""Length that the machining marks' texture covers, more than a turned picture's diagonal."""


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
        azimuth = math.radians(rng.uniform(207, 243))
        distance = rng.uniform(0.6, 0.85)
        uneven_azimuth = rng.uniform(0, 2 * np.pi)
        uneven_strength = rng.uniform(0.05, 0.25)
        warmth = rng.uniform(-0.02, 0.02)
        return cls(
            shift=(rng.uniform(-0.012, 0.012), rng.uniform(-0.012, 0.012)),
            angle=math.radians(rng.uniform(-3, 3)),
            scale=rng.uniform(0.98, 1.02),
            light=(
                distance * math.cos(azimuth),
                distance * math.sin(azimuth),
                rng.uniform(1.2, 1.6),
            ),
            brightness=rng.uniform(0.9, 1.08),
            uneven=(
                uneven_strength * math.cos(uneven_azimuth),
                uneven_strength * math.sin(uneven_azimuth),
            ),
            tint=(1.01 - warmth, 1.0, 0.985 + warmth),
            marks_strength=rng.uniform(0.25, 0.5),
            belt_phase=rng.uniform(0, 2 * np.pi),
            belt_level=rng.uniform(0.85, 1.2),
            blur=rng.uniform(0.0006, 0.0018),
            noise=rng.uniform(1.0, 2.2),
        )


def plate_distance(x: FloatArray, y: FloatArray) -> FloatArray:
    """Signed distance to the plate's outline, negative inside."""
    inner = PLATE_HALF_SIDE - PLATE_CORNER_RADIUS
    over_x, over_y = np.abs(x) - inner, np.abs(y) - inner
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return outside + np.minimum(np.maximum(over_x, over_y), 0) - PLATE_CORNER_RADIUS


def clearance(x: FloatArray, y: FloatArray) -> FloatArray:
    """Distance from a point on the metal to the nearest edge or hole; negative off the metal."""
    nearest = np.minimum(-plate_distance(x, y), np.hypot(x, y) - BORE_RADIUS)
    for bolt_x, bolt_y in BOLTS:
        nearest = np.minimum(nearest, np.hypot(x - bolt_x, y - bolt_y) - BOLT_RADIUS)
    return nearest


def picture_grid(size: int) -> tuple[FloatArray, FloatArray]:
    """Positions of the pixels' centres, (size, size) each, from -0.5 to 0.5."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5).astype(np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def machine_part(scene: Scene, size: int, rng: np.random.Generator) -> Surface:
    """Builds the metal of a good part: brushed plate, turned boss, chamfered bore and holes."""
    picture_x, picture_y = picture_grid(size)
    shifted_x, shifted_y = picture_x - scene.shift[0], picture_y - scene.shift[1]
    cos, sin = math.cos(scene.angle) / scene.scale, math.sin(scene.angle) / scene.scale
    x = (cos * shifted_x + sin * shifted_y).astype(np.float32)
    y = (cos * shifted_y - sin * shifted_x).astype(np.float32)
    pixel = 1 / (size * scene.scale)

    radius = np.hypot(x, y)
    on_boss = _cover((BOSS_RADIUS - radius) / pixel)
    brushed = _marks(rng, size, x, y)
    turned = _marks(rng, size, np.arctan2(y, x) * (TEXTURE_EXTENT / (2 * np.pi)), radius)
    marks = brushed + on_boss * (turned - brushed)
    flat = np.zeros_like(x)
    surface = Surface(
        x=x,
        y=y,
        pixel=pixel,
        metal=_cover(clearance(x, y) / pixel),
        slope_x=flat,
        slope_y=flat.copy(),
        grain_x=1 - on_boss,
        grain_y=flat.copy(),
        marks=marks * scene.marks_strength,
        gloss=np.ones_like(x),
        reflectance=np.empty((size, size, 3), np.float32),
    )
    _turn_grain(surface, (0.0, 0.0), on_boss)
    for centre in BOLTS:
        distance = np.hypot(x - centre[0], y - centre[1])
        spotface = _cover((SPOTFACE_RADIUS - distance) / pixel)
        surface.grain_x *= 1 - spotface
        surface.marks *= 1 - 0.6 * spotface
        _turn_grain(surface, centre, spotface)
        _bevel(surface, centre, SPOTFACE_RADIUS, 0.009, 0.2)
        _bevel(surface, centre, BOLT_RADIUS, 0.014, 0.35)
    _bevel(surface, (0.0, 0.0), BORE_RADIUS, 0.014, 0.35)
    _bevel(surface, (0.0, 0.0), BORE_RADIUS + 0.025, 0.006, -0.2)
    _bevel(surface, (0.0, 0.0), BOSS_RADIUS, 0.014, -0.35)
    _round_outline(surface)
    mottle = _mottle(rng, size, cells=7)
    surface.reflectance[:] = (1 + 0.025 * surface.marks + 0.035 * mottle)[..., None]
    # The boss stands on the plate: less light reaches its foot.
    foot = np.exp(-np.maximum(radius - BOSS_RADIUS, 0) / 0.018) * (1 - on_boss)
    surface.reflectance *= (1 - 0.3 * foot)[..., None]
    return surface


def light_picture(
    scene: Scene, surface: Surface, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Lights the part on its belt and takes the picture, (size, size, 3) BGR of 0..255."""
    cos, sin = math.cos(scene.angle), math.sin(scene.angle)
    light_x = cos * scene.light[0] + sin * scene.light[1]
    light_y = cos * scene.light[1] - sin * scene.light[0]
    metal = _lit_metal(surface, (light_x, light_y, scene.light[2]))
    metal *= np.float32(scene.tint)

    belt = _belt(scene, size, rng)
    shadow = _cover(-plate_distance(surface.x + 0.05 * light_x, surface.y + 0.05 * light_y) / 0.05)
    inside = plate_distance(surface.x, surface.y) < 0
    belt *= np.where(inside, 0.45, 1 - 0.6 * shadow)[..., None]

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
    level = scene.belt_level * (0.16 + 0.035 * ribs + 0.02 * _mottle(rng, size, cells=48))
    return level[..., None] * np.float32((1.2, 1.02, 0.85))


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
    noise = np.zeros((rows, columns), np.float32)
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


def _turn_grain(surface: Surface, centre: tuple[float, float], share: FloatArray) -> None:
    """Lets the marks run around ``centre`` where ``share`` is 1; expects none there yet."""
    from_x, from_y = surface.x - centre[0], surface.y - centre[1]
    radius = np.maximum(np.hypot(from_x, from_y), surface.pixel)
    surface.grain_y *= 1 - share
    surface.grain_x -= share * from_y / radius
    surface.grain_y += share * from_x / radius


def _bevel(
    surface: Surface, centre: tuple[float, float], radius: float, width: float, slope: float
) -> None:
    """Adds a ring of a slope from ``radius`` outwards; the surface rises outwards if positive."""
    from_x, from_y = surface.x - centre[0], surface.y - centre[1]
    distance = np.maximum(np.hypot(from_x, from_y), surface.pixel)
    ring = _band(distance - radius, width, surface.pixel) * (slope / distance)
    surface.slope_x += ring * from_x
    surface.slope_y += ring * from_y


def _round_outline(surface: Surface) -> None:
    """Bevels the plate's outer edge."""
    distance = plate_distance(surface.x, surface.y)
    inner = PLATE_HALF_SIDE - PLATE_CORNER_RADIUS
    out_x = np.maximum(np.abs(surface.x) - inner, 1e-6) * np.sign(surface.x)
    out_y = np.maximum(np.abs(surface.y) - inner, 1e-6) * np.sign(surface.y)
    ring = _band(distance + 0.014, 0.014, surface.pixel) * (0.4 / np.hypot(out_x, out_y))
    surface.slope_x -= ring * out_x
    surface.slope_y -= ring * out_y


def _cover(distance: FloatArray) -> FloatArray:
    """Share of a pixel inside an edge, from the signed distance in pixels."""
    return np.clip(distance + 0.5, 0, 1).astype(np.float32)


def _band(distance: FloatArray, width: float, pixel: float) -> FloatArray:
    """Share of a pixel where 0 < distance < width; the edges are rounded, as on real metal."""
    soft = max(pixel, 0.009)
    return _cover(distance / soft) - _cover((distance - width) / soft)
