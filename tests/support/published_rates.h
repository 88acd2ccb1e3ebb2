// The published learning rates, section 5 of the recipe's specification.
#pragma once
#include <utility>

namespace sg::test {

// Epoch and rate, to 1e-9; from epoch 300 on it is 1e-5.
inline constexpr std::pair<int, double> kPublishedRates[] = {
    {0, 1e-6},         {1, 5.095e-5},   {10, 5.005e-4}, {19, 9.5005e-4},   {20, 9.8918306e-4},
    {21, 9.880788e-4}, {100, 7.525e-4}, {150, 5.05e-4}, {250, 7.63174e-5}, {299, 1.00271e-5}};

}  // namespace sg::test
