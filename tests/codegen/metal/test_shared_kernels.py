"""Kernels of all machines as shaders: what CUDA's tests try of them is tried here again."""

from __future__ import annotations

import pytest

from ..cuda.test_caches import *  # noqa: F403
from ..cuda.test_experts import *  # noqa: F403
from ..cuda.test_float8 import *  # noqa: F403
from ..cuda.test_formats import *  # noqa: F403
from ..cuda.test_latent import *  # noqa: F403
from ..cuda.test_matrices import *  # noqa: F403
from ..cuda.test_recurrent import *  # noqa: F403
from ..cuda.test_rowwise import *  # noqa: F403
from ..cuda.test_token_choice import *  # noqa: F403
from ..cuda.test_vectors import *  # noqa: F403

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_metal")]
