// Configurations: options of a run (--config, args.json), the model of a checkpoint, and the texts
// of --scales and --regions.
#include "io/yaml.h"
#include "sgformer/config_json.h"
#include "tests/fuzz/fuzz.h"
#include "train/options.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sg::ExitCode, sg::test::value_or_error;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  nlohmann::json json;
  value_or_error(ExitCode::usage,
                 [&] { json = sg::parse_config(text, "config", ExitCode::usage); });
  value_or_error(ExitCode::usage, [&] {
    sg::train::Options options;
    sg::train::apply_json(options, json, "config");
    sg::train::validate(options);
  });
  value_or_error(ExitCode::checkpoint, [&] { sg::sgformer::config_from_json(json); });
  for (const auto set : {sg::sgformer::set_scales, sg::sgformer::set_regions})
    value_or_error(ExitCode::usage, [&] {
      auto config = sg::sgformer::find_config("sgformer_nano");
      set(config, text);
      sg::sgformer::validate(config);
    });
  return 0;
}
