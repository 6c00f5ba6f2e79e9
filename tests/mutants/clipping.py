"""Mutants of clipping: one user's norm exceeds the charged sensitivity."""

from __future__ import annotations

from mutants.mutant import rows

rows(
    __name__,
    """
no clip | sensitivity
bug: contributions are put on the grid as they are
seen: a clip that is configured and never called, as when a strategy without its wrapper is used
@ palate_common.mechanism.clipping:clip
- scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
+ scale = np.full(len(norms), 1 / clip_norm)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite

per-block clip | sensitivity
bug: each block is clipped to the whole clip norm by itself
seen: per-layer clipping accounted as a global one
@ palate_common.mechanism.clipping:clip
- block.keep(finite).quantise(scale * spec.weight, grid)
+ block.quantise(GUARD * spec.weight / np.maximum(spec.weight * np.sqrt(block.square_norms()), clip_norm), grid)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite

clip after sum | sensitivity
bug: a node sums its users first and clips the sum to their number of clip norms
seen: clipping the mean gradient of a batch instead of each example's
@ palate_common.mechanism.clipping:clip
- scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
+ scale = np.full(len(norms), 1 / clip_norm)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite
@ palate_common.mechanism.update:ClippedUpdate.total
- return total
+ length = max(float(np.linalg.norm(total.astype(np.float64))), 1.0)
+ return (total * min(1.0, self.users * self.grid / length)).astype(np.int64)

shard clipped as one user | sensitivity
bug: the sum of a node's users is clipped to one clip norm
seen: a simulated client that stands for many users; zero-out of one then moves it by up to two clip norms
@ palate_common.mechanism.clipping:clip
- scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
+ scale = np.full(len(norms), 1 / clip_norm)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite
@ palate_common.mechanism.update:ClippedUpdate.total
- return total
+ length = max(float(np.linalg.norm(total.astype(np.float64))), 1.0)
+ return (total * min(1.0, self.grid / length)).astype(np.int64)

NaN bypasses the clip | sensitivity
bug: a norm that is NaN compares as small, and what isn't NaN goes out unclipped
seen: `if norm > clip` is false for NaN
@ palate_common.mechanism.clipping:clip
- finite = np.isfinite(norms)
+ from dataclasses import replace
+ norms = np.where(norms > clip_norm, np.where(np.isfinite(norms), norms, np.inf), clip_norm)
+ found = [{name: vars(each).get(name) for name in ("values", "rows", "columns", "shift")} for each in update.blocks]
+ clean = [{k: np.nan_to_num(v, posinf=0.0, neginf=0.0) for k, v in each.items() if v is not None} for each in found]
+ update = Update(tuple(replace(a, **b) for a, b in zip(update.blocks, clean, strict=True)), update.n_users)
+ finite = np.isfinite(norms)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ within = finite

integer norm overflow, int64 | sensitivity
bug: the norm check squares in int64, which wraps: 2^32 steps have norm 0
seen: int64 dot products were seen to overflow to 0
@ palate_common.mechanism.clipping:clip
- scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
+ scale = np.full(len(norms), 1 / clip_norm)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ raw = ClippedUpdate(steps, finite, grid)
+ vectors = np.stack([raw.vector(user) for user in range(update.n_users)])
+ within = (vectors * vectors).sum(axis=1, dtype=np.int64) <= np.int64(grid) * np.int64(grid)

integer norm overflow, int32 | sensitivity
bug: the norm check squares in int32, which wraps: 2^16 steps have norm 0
seen: int32 dot products were seen to overflow to 0
@ palate_common.mechanism.clipping:clip
- scale = GUARD / np.maximum(np.where(finite, norms, np.inf), clip_norm)
+ scale = np.full(len(norms), 1 / clip_norm)
- within = sum((block.square_norms() for block in steps), np.zeros(1)) <= float(grid) ** 2
+ raw = ClippedUpdate(steps, finite, grid)
+ vectors = np.stack([raw.vector(user) for user in range(update.n_users)]).astype(np.int32)
+ within = (vectors * vectors).sum(axis=1, dtype=np.int32) <= np.int32(grid) * np.int32(grid)

a row named twice counts twice | reference
bug: rows that one user names twice are accepted: the clip counts each by itself, the sum adds them up
seen: sparse gradients before they are coalesced
@ palate_common.mechanism.clipping:_check_rows
- rising = indices[1:] > indices[:-1]
+ rising = indices[1:] >= indices[:-1]
""",
)
