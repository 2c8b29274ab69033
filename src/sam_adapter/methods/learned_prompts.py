"""Learned prompts: tokens that ask a question about the whole picture that no user has to ask, such as one class.

Each question has some tokens of its own in the space of the prompt encoder's; they follow those of the user's prompt,
if there is one, on their way into the mask decoder (prompt tuning, Lester et al., 2021, in SAM's decoder).
"""

import torch
from torch import Tensor, nn


class LearnedPrompts(nn.Module):
    """Tokens for some questions; all are trained, and saved in adapter files.

    They begin as far apart as SAM's own tokens did, with standard deviation 1: with tokens that begin close together,
    training takes many epochs to tell the questions apart.

    Args:
        questions: How many there are, such as one a class.
        tokens: For each of them.
        width: Channels D of a prompt token.
    """

    def __init__(self, questions: int, *, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.table = nn.Embedding(questions, tokens * width)

    def forward(self, questions: list[int]) -> Tensor:
        """The tokens ``(Q, n, D)`` of some questions, counted from 0."""
        index = torch.tensor(questions, dtype=torch.long, device=self.table.weight.device)
        return self.table(index).unflatten(1, (self.tokens, -1))
