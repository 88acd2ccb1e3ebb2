// The flags of all programs that mean what they mean for sgtrain, from the table of
// train/option_table.h.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/cli.h"
#include "train/option_table.h"

namespace sg::tools {

// Those by which a program that builds a model changes its configuration (train::apply()).
inline const std::vector<std::string_view> kModelFlags{
    "num-classes", "guidance", "scales", "regions", "balance-significance", "grad-checkpointing"};

// Adds flags of these names ("img-size"), with the table's help, under its headings; the values of
// `options` are the defaults. Where one is given several times, the last one counts. Numbers are
// decimal; parsing throws ExitCode::usage where one is none, or outside the range of the table.
void add_options(CLI::App& app, train::Options& options,
                 const std::vector<std::string_view>& names);

// A flag of one program alone, read as those of the table are.
CLI::Option* add_option(CLI::App& app, const train::OptionInfo& info, int64_t& value);
CLI::Option* add_option(CLI::App& app, const train::OptionInfo& info, std::string& value);

// For sgtrain, all flags of the table and --config: the defaults of the model that is asked for,
// then --config FILE (YAML or JSON), then the flags.
train::Options parse_train_options(CLI::App& app, int argc, char** argv);

}  // namespace sg::tools
