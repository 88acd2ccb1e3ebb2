// The images of a report.
#pragma once
#include <memory>

#include "data/dataset.h"
#include "infer/predictor.h"
#include "report/report.h"

namespace sg::setups {

// Some images spread over a dataset, as evaluation sees them, with the classes that the model
// finds in them and the significance that guided it. Broken ones are left out.
Gallery report_samples(const infer::Predictor& predict, const data::Dataset& dataset,
                       const data::ClassTitles& titles = {}, int count = 12);

}  // namespace sg::setups
