"""Scratch, spot and dent: where they lie, and what they do to the metal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aicore.datasets.sample.drawing import FloatArray, Surface, clearance

STAINS = {
    "oil": (0.30, 0.33, 0.36),
    "rust": (0.28, 0.42, 0.62),
}
"""Reflectance of what a spot is made of, in blue, green, red; bare metal has 1."""


@dataclass(frozen=True)
class Place:
    """Where a defect lies in the part's frame: a circle that holds it, and its direction."""

    x: float
    y: float
    radius: float
    angle: float
    scratch_width: float = 1.0
    """Factor on how wide a scratch is drawn."""


@dataclass(frozen=True)
class _Kind:
    """A class of defects.

    Attributes:
        damage: changes the surface and returns the (H, W) pixels that it touched.
        radii: smallest and largest radius of a place.
        breadth: share of the place's circle, across its direction, that must lie on the metal.
    """

    damage: Callable[[Surface, Place, np.random.Generator], NDArray[np.bool_]]
    radii: tuple[float, float]
    breadth: float


def add_defects(
    surface: Surface, label: str, rng: np.random.Generator, scratch_width: float = 1.0
) -> NDArray[np.uint8]:
    """Damages ``surface`` in place with one to three defects of the class ``label``.

    Args:
        surface: a good part's metal.
        label: ``scratch``, ``spot`` or ``dent``.
        rng: source of places and shapes; the draws do not depend on the picture's size.
        scratch_width: factor on the width of scratches.

    Returns:
        (N, H, W) masks of 0 and 255, one for each defect; no two of them touch.
    """
    kind = _KINDS[label]
    count = int(rng.choice((1, 2, 3), p=(0.3, 0.4, 0.3)))
    masks = []
    for place in _find_places(kind, count, rng):
        place = replace(place, scratch_width=scratch_width)
        touched = kind.damage(surface, place, rng) & (surface.metal > 0.5)
        masks.append(touched.astype(np.uint8) * 255)
    return np.stack(masks)


def _find_places(kind: _Kind, count: int, rng: np.random.Generator) -> list[Place]:
    """Finds up to ``count`` places on the metal, at least one, clear of each other."""
    places: list[Place] = []
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring_x, ring_y = 0.92 * np.cos(turn), 0.92 * kind.breadth * np.sin(turn)
    # The first is tried until it fits; the others may be left out where there is no room.
    tries = 0
    while not places or (len(places) < count and tries < 60):
        tries += 1
        # Small and large ones are equally likely on a logarithmic scale.
        radius = float(np.exp(rng.uniform(*np.log(kind.radii))))
        x, y = rng.uniform(-0.4, 0.4, 2).tolist()
        place = Place(x, y, radius, rng.uniform(0, np.pi))
        cos, sin = radius * math.cos(place.angle), radius * math.sin(place.angle)
        edge_x = x + cos * ring_x - sin * ring_y
        edge_y = y + sin * ring_x + cos * ring_y
        on_metal = np.mean(clearance(edge_x, edge_y) > 0.012) > 0.8
        apart = all(
            np.hypot(x - other.x, y - other.y) > 1.1 * (radius + other.radius) + 0.03
            for other in places
        )
        if on_metal and apart:
            places.append(place)
    return places


def _scratch(surface: Surface, place: Place, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A thin curved groove that tapers off, bright or dark, across or along the marks."""
    half_width = rng.uniform(0.006, 0.0115) * place.scratch_width
    bend = rng.uniform(-0.22, 0.22) * place.radius
    wobble = rng.normal(0, 0.008, 13) * place.radius
    strength = rng.uniform(0.5, 1.0)
    bright = rng.random() < 0.6

    step = np.linspace(-1, 1, 13)
    along, aside = step * 0.97 * place.radius, bend * (1 - 2 * step**2) * 0.5 + wobble
    cos, sin = math.cos(place.angle), math.sin(place.angle)
    points = np.stack(
        (place.x + cos * along - sin * aside, place.y + sin * along + cos * aside), axis=1
    )
    distance, position = _distance_to_line(surface.x, surface.y, points)
    width = half_width * (0.3 + 0.7 * np.sqrt(np.maximum(1 - position**2, 0)))
    groove = np.clip((width - np.abs(distance)) / surface.pixel + 0.5, 0, 1)
    groove *= np.minimum(1, 2 * width / surface.pixel)
    groove *= 0.75 + 0.25 * np.cos(7 * distance / width)  # torn into a few strands

    # The groove's two walls lean to either side; its ground is bare or soiled.
    lean = strength * 0.5 * groove * np.clip(distance / width, -1, 1)
    surface.slope_x -= lean * sin
    surface.slope_y += lean * cos
    change = strength * (0.55 if bright else -0.6)
    surface.reflectance *= (1 + change * groove)[..., None]
    surface.gloss *= 1 - 0.3 * strength * groove
    return np.abs(distance) <= width + 0.5 * surface.pixel


def _spot(surface: Surface, place: Place, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A stain with an uneven outline and a soft edge."""
    outline = _outline(surface, place, rng, roughness=0.14)
    stain = np.array(STAINS[str(rng.choice(list(STAINS)))], np.float32)
    opacity = rng.uniform(0.45, 0.95)
    softness = rng.uniform(0.2, 0.5)
    darker_rim = rng.uniform(0, 0.35)

    inside = np.clip((1 - outline) / softness, 0, 1)
    cover = opacity * inside * (1 - darker_rim * np.clip(1 - outline, 0, 1))
    surface.reflectance += cover[..., None] * (stain - surface.reflectance)
    surface.gloss *= 1 - 0.5 * cover
    return outline < 1


def _dent(surface: Surface, place: Place, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A hollow pressed into the metal: seen by how it turns the light only."""
    outline = _outline(surface, place, rng, roughness=0.04)
    depth = math.exp(rng.uniform(math.log(0.25), math.log(0.5)))
    # Height -(1 - r²)^1.5: steepest near the rim, level in the middle and outside.
    steep = depth * 2 * outline * np.sqrt(np.maximum(1 - outline**2, 0))
    from_x, from_y = surface.x - place.x, surface.y - place.y
    distance = np.maximum(np.hypot(from_x, from_y), surface.pixel)
    surface.slope_x += steep * from_x / distance
    surface.slope_y += steep * from_y / distance
    surface.marks *= np.where(outline < 1, 0.5, 1).astype(np.float32)
    return outline < 1


_KINDS = {
    "scratch": _Kind(_scratch, radii=(0.13, 0.32), breadth=0.0),
    "spot": _Kind(_spot, radii=(0.06, 0.12), breadth=0.75),
    "dent": _Kind(_dent, radii=(0.06, 0.12), breadth=0.75),
}


def _outline(
    surface: Surface, place: Place, rng: np.random.Generator, roughness: float
) -> FloatArray:
    """Distance from the place's centre, (H, W), scaled to be 1 on an uneven oval's outline."""
    flatness = rng.uniform(0.7, 1.0)
    waves = np.arange(2, 7)
    heights = roughness * rng.standard_normal(5) * (2 / waves)
    phases = rng.uniform(0, 2 * np.pi, 5)

    cos, sin = math.cos(place.angle), math.sin(place.angle)
    from_x, from_y = surface.x - place.x, surface.y - place.y
    along = cos * from_x + sin * from_y
    aside = (cos * from_y - sin * from_x) / flatness
    around = np.arctan2(aside, along)
    reach = np.ones_like(around)
    for wave, height, phase in zip(waves, heights, phases, strict=True):
        reach += np.float32(height) * np.cos(np.float32(wave) * around + np.float32(phase))
    # Held within the circle that keeps defects apart.
    return np.hypot(along, aside) / (place.radius * np.clip(reach, 0.5, 1.1))


def _distance_to_line(
    x: FloatArray, y: FloatArray, points: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """Signed distance to an open line and the nearest point's position on it in [-1, 1]."""
    nearest = np.full(x.shape, np.inf, np.float32)
    side = np.zeros_like(nearest)
    position = np.zeros_like(nearest)
    segments = len(points) - 1
    for number, (start, end) in enumerate(pairwise(points)):
        edge = (end - start).astype(np.float32)
        from_x, from_y = x - np.float32(start[0]), y - np.float32(start[1])
        share = np.clip((from_x * edge[0] + from_y * edge[1]) / np.float32(edge @ edge), 0, 1)
        distance = np.hypot(from_x - share * edge[0], from_y - share * edge[1])
        closer = distance < nearest
        nearest = np.where(closer, distance, nearest)
        side = np.where(closer, edge[0] * from_y - edge[1] * from_x, side)
        position = np.where(closer, (number + share) * (2 / segments) - 1, position)
    return np.copysign(nearest, side), position
