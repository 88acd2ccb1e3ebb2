// The flags of all programs that mean what they mean for sgtrain, from the table of
// train/options.h.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/box.h"
#include "tools/common/cli.h"
#include "train/options.h"

namespace sg::tools {

// Those by which a program that builds a model changes its configuration (train::apply()).
inline const std::vector<std::string_view> kModelFlags{
    "num-classes", "guidance", "scales", "regions", "balance-significance", "grad-checkpointing"};

// Adds flags of these names ("img-size"), with the table's help, under its headings; the values of
// `options` are the defaults. Where one is given several times, the last one counts.
void add_options(CLI::App& app, train::Options& options,
                 const std::vector<std::string_view>& names);

// parse(), and the ranges of the table.
void parse(CLI::App& app, const train::Options& options, int argc, char** argv);

// For sgtrain, all flags of the table and --config: the defaults of the model that is asked for,
// then --config FILE.json, then the flags.
train::Options parse_train_options(CLI::App& app, int argc, char** argv);

// --img-size of programs that take images of any shape: "224" or "800x1344", each side in the
// range of the table.
void add_image_size(CLI::App& app, std::string& text);
// Throws ExitCode::usage; "" is `side` x `side`.
ImageSize parse_image_size(const std::string& text, int64_t side);

}  // namespace sg::tools
