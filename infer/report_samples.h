// The pictures of a report.
#pragma once
#include <memory>

#include "data/dataset.h"
#include "report/report.h"
#include "sgformer/model.h"

namespace sg::train {

// Some pictures spread over a dataset, as evaluation sees them, with the classes that the model
// finds in them and the significance that guided it. Broken ones are left out.
std::vector<ReportSample> report_samples(const sgformer::Model& model, const data::Dataset& dataset,
                                         const Options& options, int count = 12);

}  // namespace sg::train
