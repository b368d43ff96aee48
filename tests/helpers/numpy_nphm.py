"""NPHM once more, in NumPy float64 from its formulas alone: what forward models are held to.

Official names and shapes of tensors; sizes come from them. Nothing is shared with the package. The golden
arrays hold this to the official code (test_forward.py), and this holds models of other sizes.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def softplus(t: Array) -> Array:
    return np.where(100 * t > 20, t, np.log1p(np.exp(np.minimum(100 * t, 20))) / 100)


class NumpyNphm:
    def __init__(self, identity: dict, deformation: dict, anchors: Array) -> None:
        as_array = lambda state: {k: np.asarray(v, np.float64) for k, v in state.items()}  # noqa: E731
        self.identity, self.deformation = as_array(identity), as_array(deformation)
        self.mean = np.asarray(anchors, np.float64).reshape(-1, 3)
        self.g = self.identity["mlp_pos.0.weight"].shape[1]
        first = self.identity["ensembled_deep_sdf.lin0.weight"]
        self.sets, self.l = len(first), first.shape[2] - 3 - self.g
        self.pairs = len(self.mean) + 1 - self.sets

    @classmethod
    def of(cls, model) -> NumpyNphm:
        return cls(
            model.identity.state_dict(), model.deformation.state_dict(), model.identity.anchors_mean.numpy()
        )

    def anchors(self, z: Array) -> Array:
        h = z[: self.g]
        for i in (0, 2, 4):
            h = self.identity[f"mlp_pos.{i}.weight"] @ h + self.identity[f"mlp_pos.{i}.bias"]
            h = np.maximum(h, 0) if i < 4 else h
        return self.mean + h.reshape(-1, 3)

    @staticmethod
    def _mlp(v: Array, weights: list[Array], biases: list[Array]) -> Array:
        n, h = len(weights) - 1, v
        for i in range(n + 1):
            if i == n // 2:
                h = np.concatenate([h, v], axis=1) / np.sqrt(2)
            h = h @ weights[i].T + biases[i]
            h = softplus(h) if i < n else h
        return h

    def _layers(self, state: dict, name: str) -> tuple[list[Array], list[Array]]:
        count = sum(key.startswith(name + ".lin") and key.endswith(".weight") for key in state)
        return [state[f"{name}.lin{i}.weight"] for i in range(count)], [
            state[f"{name}.lin{i}.bias"] for i in range(count)
        ]

    def sdf(self, x: Array, z: Array) -> Array:
        """f at neutral points (N, 3)."""
        anchors, k = self.anchors(z), len(self.mean)
        weights, biases = self._layers(self.identity, "ensembled_deep_sdf")
        total, norm = np.zeros(len(x)), np.full(len(x), 1e-6)
        for m in range(k + 1):
            u = m // 2 if m < 2 * self.pairs else m - self.pairs
            local = x - anchors[m] if m < k else x.copy()
            omega = np.exp(-((np.linalg.norm(local, axis=1) + 1e-5) ** 2) / 0.01)
            omega = omega if m < k else np.full(len(x), np.exp(-0.2 / 0.01))
            if m < 2 * self.pairs and m % 2:
                local = local * (-1, 1, 1)
            code = np.concatenate([z[: self.g], z[self.g + m * self.l : self.g + (m + 1) * self.l]])
            v = np.concatenate([local, np.tile(code, (len(x), 1))], axis=1)
            total += omega * self._mlp(v, [w[u] for w in weights], [b[u] for b in biases])[:, 0]
            norm += omega
        return total / norm

    def offsets(self, x: Array, z: Array, e: Array) -> Array:
        """F at points (N, 3)."""
        c = self.deformation["compressor.0.weight"] @ np.concatenate([z, self.anchors(z).ravel()])
        c = np.concatenate([c + self.deformation["compressor.0.bias"], e])
        v = np.concatenate([x, np.tile(c, (len(x), 1))], axis=1)
        return self._mlp(v, *self._layers(self.deformation, "defDeepSDF"))

    def jacobian(self, x: Array, z: Array, e: Array, h: float = 1e-6) -> Array:
        """dF/dx (N, 3, 3), [..., output, input], by central differences."""
        steps = [(self.offsets(x + h * d, z, e) - self.offsets(x - h * d, z, e)) / (2 * h) for d in np.eye(3)]
        return np.stack(steps, axis=2)

    def search(self, p: Array, z: Array, e: Array) -> tuple[Array, Array, Array]:
        """The official root finder: last iterates (N, 3), best |x + F(x) - p| (N,), whether valid (N,)."""
        x = p.copy()
        inverse = np.linalg.inv(np.eye(3) + self.jacobian(x, z, e))
        g = x + self.offsets(x, z, e) - p
        best = np.linalg.norm(g, axis=1)
        going = (best > 1e-6) & (best < 0.2)
        for _ in range(15):
            a = np.flatnonzero(going)
            if not len(a):
                break
            step = -np.einsum("nij,nj->ni", inverse[a], g[a])
            x[a] += step
            new = x[a] + self.offsets(x[a], z, e) - p[a]
            change, g[a] = new - g[a], new
            row = np.einsum("ni,nij->nj", step, inverse[a])
            below = (row * change).sum(1)
            below = below + np.where(below < 0, -1e-6, 1e-6)
            gain = (step - np.einsum("nij,nj->ni", inverse[a], change)) / below[:, None]
            inverse[a] += gain[:, :, None] * row[:, None]
            best[a] = np.minimum(best[a], np.linalg.norm(new, axis=1))
            going[a] = (best[a] > 1e-6) & (np.linalg.norm(new, axis=1) < 0.2)
        return x, best, best < 1e-6

    def root(self, p: Array, z: Array, e: Array) -> Array:
        """The same root to rounding, by Newton's method from where the search ended."""
        x, _, valid = self.search(p, z, e)
        assert valid.all()
        for _ in range(3):
            g = x + self.offsets(x, z, e) - p
            x = x - np.linalg.solve(np.eye(3) + self.jacobian(x, z, e), g[..., None])[..., 0]
        return x

    def posed(self, p: Array, z: Array, e: Array) -> Array:
        """The posed field at points (N, 3)."""
        return self.sdf(self.root(p, z, e), z)
