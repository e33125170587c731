from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from rerender.propagate.poisson import gradient_transposed, screened_poisson


def gradient_matrix(height: int, width: int) -> scipy.sparse.csr_matrix:
    def differences(n: int) -> scipy.sparse.csr_matrix:
        return scipy.sparse.diags([-np.ones(n), np.ones(n - 1)], [0, 1]).tolil()[: n - 1]

    along_x = scipy.sparse.kron(scipy.sparse.eye(height), differences(width))
    along_y = scipy.sparse.kron(differences(height), scipy.sparse.eye(width))
    return scipy.sparse.vstack([along_x, along_y]).tocsc()


def solved_directly(height: int, width: int, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random values and gradients on the 0–255 scale, and the exact solution."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 255, (height, width)).astype(np.float32)
    gx, gy = rng.normal(0, 60, (2, height, width)).astype(np.float32)
    matrix = gradient_matrix(height, width)
    wanted = np.concatenate([gx[:, :-1].ravel(), gy[:-1].ravel()]).astype(np.float64)
    system = scipy.sparse.eye(height * width) + gain**2 * matrix.T @ matrix
    right = values.ravel() + gain**2 * matrix.T @ wanted
    return values, gx, gy, scipy.sparse.linalg.spsolve(system.tocsc(), right).reshape(height, width)


@pytest.mark.parametrize(("height", "width"), [(23, 31), (48, 36), (1, 9), (40, 1)])
@pytest.mark.parametrize("gain", [0.5, 2.5, 20.0])
def test_it_is_the_solution_of_the_sparse_system(height, width, gain):
    values, gx, gy, exact = solved_directly(height, width, gain)
    solved = screened_poisson(values, gx, gy, gain)
    assert solved.dtype == np.float32
    assert np.abs(solved - exact).max() < 1e-3


def test_the_gradient_of_a_picture_gives_the_picture_back():
    picture = np.random.default_rng(1).uniform(0, 100, (20, 30, 3)).astype(np.float32)
    gx = np.diff(picture, axis=1, append=0)
    gy = np.diff(picture, axis=0, append=0)
    assert np.allclose(screened_poisson(picture, gx, gy, 2.5), picture, atol=1e-3)


def test_the_transposed_gradient_is_the_adjoint():
    rng = np.random.default_rng(2)
    u, gx, gy = rng.normal(size=(3, 12, 17))
    inner = np.sum(np.diff(u, axis=1) * gx[:, :-1]) + np.sum(np.diff(u, axis=0) * gy[:-1])
    assert np.sum(u * gradient_transposed(gx, gy)) == pytest.approx(inner)
