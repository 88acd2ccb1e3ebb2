// Weights of classes in the loss: what --class-weights means.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"

namespace sg::tasks {

// One weight per class of a model with `classes` of them; none for "".
//   "balanced"   images / (classes of the data * images of the class), so that the mean over the
//                images is 1; 1 for a class without images
//   a file       as many numbers as the data has classes, in their order, as text or a JSON array;
//                or a JSON object of all class names
// Classes of the model that the data lacks have 1. Throws ExitCode::usage where the file has other
// classes, or a weight is not above 0.
std::vector<double> class_weights(const std::string& spec, const data::Dataset& training,
                                  int64_t classes);

}  // namespace sg::tasks
