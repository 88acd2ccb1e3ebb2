// Scores of boxes from logits, and their order.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace sg::sgformer {

// T is float or double. scores[i] = 1 / (1 + exp(-logits[i])).
template <class T>
void sigmoid(std::span<const T> logits, std::span<T> scores);

// Each row of `classes` logits to its probabilities.
template <class T>
void softmax(std::span<const T> logits, int64_t classes, std::span<T> scores);

// Indices of the `most` largest scores (all, where there are fewer), descending; equal ones in
// order of index, and after all others those that are not a number.
template <class T>
std::vector<int32_t> top_scores(std::span<const T> scores, size_t most);

}  // namespace sg::sgformer
