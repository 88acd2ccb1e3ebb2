// sgtrain: trains a model on a folder of images.
#include "setups/setups.h"
#include "tools/common/options.h"
#include "train/run.h"
#include "train/start_ranks.h"

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    // Before data are read, which can take minutes.
    using sg::train::StopSignals;
    std::optional<StopSignals> signals(std::in_place, StopSignals::Begin::nothing_to_save);
    CLI::App app(
        "Trains an SG-Former to classify images, or with --task segmentation each pixel of them. "
        "Defaults are those of the published recipe; for "
        "sgformer_nano, of one that takes minutes. Times are in epochs, rates in units of 1. Flags "
        "of timm's train.py that are not listed are accepted where they change nothing, and else "
        "the error says what to use (docs/timm.md).\n"
        "Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 another process was lost, 6 "
        "non-finite numbers, 75 interrupted and saved, 128+n signal n, 1 other.");
    const sg::train::Options options = sg::tools::parse_train_options(app, argc, argv);
    const std::vector<std::string> command(argv, argv + argc);
    if (!sg::train::starts_ranks(options, sg::dist::launch_of_environment())) {
      const auto setup = sg::setups::make_setup(options.task);
      return sg::train::run(options, sg::setups::default_options(sg::setups::choice(options)),
                            *setup, *signals, command);
    }
    const auto settings = sg::train::launcher_settings(options, command);
    signals.reset();  // the launcher takes them
    return sg::dist::launch(settings);
  });
}
