"""The sequential recurrence against the sum that solves it."""

import torch

from ssm_models.scan import sequential


def system(L: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    a = torch.polar(
        torch.rand(3, 4, generator=g, dtype=torch.float64), torch.rand(3, 4, generator=g, dtype=torch.float64)
    )
    bu = torch.randn(2, L, 3, 4, generator=g, dtype=torch.complex128)
    initial = torch.randn(2, 3, 4, generator=g, dtype=torch.complex128)
    return a, bu, initial


def test_states_are_the_solution_of_the_recurrence() -> None:
    a, bu, initial = system(9)
    states = sequential(a, bu, initial)
    for k in range(9):
        expected = a ** (k + 1) * initial + sum(a ** (k - j) * bu[:, j] for j in range(k + 1))
        torch.testing.assert_close(states[:, k], expected)


def test_a_sequence_in_two_parts_with_the_state_handed_over_is_the_whole() -> None:
    a, bu, initial = system(10)
    first = sequential(a, bu[:, :4], initial)
    second = sequential(a, bu[:, 4:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], dim=1), sequential(a, bu, initial), rtol=0, atol=0)
