// A matrix of counts as an image: rows and columns named, the darker the larger the share of a row.
#pragma once
#include "core/findings.h"
#include "data/image.h"

namespace sg::report {

// Names and counts (12k, 3.4M) are written where the cells have room for them, that is of up to
// sixty names; at most 4096 pixels a side. Letters beyond ASCII are shown as '?'.
data::Image matrix_image(const Matrix& matrix);

}  // namespace sg::report
