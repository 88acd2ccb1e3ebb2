// What all ranks of a run must have alike before the first step.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "data/image_set.h"
#include "dist/group.h"
#include "train/options.h"

namespace sg::train {

// Collective: compares the values of an object, whose keys are for people, with those of rank 0.
// Throws ExitCode::peer on all ranks, naming the ranks, the keys and both values; of our launcher's
// ranks dist::kNotAlike, so that it does not start them again.
void check_agreement(dist::Group& group, std::string_view what, const nlohmann::json& mine);

// The options that decide what a run computes, and the program: its version and, of several ranks,
// a hash of its file.
nlohmann::json options_to_agree_on(const Options& options);
// Of the samples, wherever the data set lies: how many there are, and a hash of their names and
// labels in their order.
nlohmann::json listing_to_agree_on(const data::ImageSet& images);

}  // namespace sg::train
