"""Modified Kneser-Ney and back-off queries straight from their formulas, with dictionaries and recursion."""

from __future__ import annotations

import math
from collections import Counter

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
Gram = tuple[str, ...]


class KneserNey:
    """p_k(w | h) = max(a(hw) - D, 0) / sum_w a(hw) + gamma(h) p_{k-1}(w | h without its first word); p_0 is uniform."""

    def __init__(self, sentences: list[list[str]], words: list[str], order: int) -> None:
        self.order, self.words = order, [word for word in words if word != BOS]
        texts = [[BOS, *(w if w in words else UNK for w in sentence), EOS] for sentence in sentences]
        self.raw: Counter[Gram] = Counter()
        for text in texts:
            for k in range(1, order + 1):
                self.raw.update(tuple(text[i : i + k]) for i in range(len(text) - k + 1))
        self.adjusted = {gram: self._adjusted(gram) for gram in self.raw if gram != (BOS,)}
        self.discounts = {k: self._discounts(k) for k in range(1, order + 1)}

    def _adjusted(self, gram: Gram) -> int:
        if len(gram) == self.order or gram[0] == BOS:
            return self.raw[gram]
        return len({longer[0] for longer in self.raw if len(longer) == len(gram) + 1 and longer[1:] == gram})

    def _discounts(self, k: int) -> tuple[float, float, float]:
        n = [sum(len(g) == k and a == j for g, a in self.adjusted.items()) for j in range(5)]
        if 0 in n[1:4]:
            return 0.5, 1.0, 1.5
        y = n[1] / (n[1] + 2 * n[2])
        found = (1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3])
        return found if min(found) > 0 else (0.5, 1.0, 1.5)

    def prob(self, history: Gram, word: str) -> float:
        history = history[len(history) - self.order + 1 :] if len(history) >= self.order else history
        return self._prob(history, word)

    def _prob(self, history: Gram, word: str) -> float:
        k = len(history) + 1
        lower = self._prob(history[1:], word) if history else 1 / len(self.words)
        after = {g[-1]: a for g, a in self.adjusted.items() if len(g) == k and g[:-1] == history}
        total = sum(after.values())
        if not total:
            return lower
        discount = [0.0, *self.discounts[k]]
        count = after.get(word, 0)
        gamma = sum(discount[min(a, 3)] for a in after.values()) / total
        return (count - discount[min(count, 3)]) / total + gamma * lower


def back_off(probs: dict[Gram, float], weights: dict[Gram, float], history: Gram, word: str) -> float:
    """log10 probability as the ARPA format defines it."""
    gram = (*history, word)
    if gram in probs:
        return probs[gram]
    return weights.get(history, 0.0) + back_off(probs, weights, history[1:], word) if history else -math.inf
