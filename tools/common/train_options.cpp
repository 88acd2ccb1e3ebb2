#include "tools/common/train_options.h"

#include "io/file.h"
#include "io/json.h"

namespace sg::tools {
namespace {

// The value of a flag before anything else is parsed: it decides the defaults of the others.
std::string peek(int argc, char** argv, const std::string& flag) {
  std::string value;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == flag && i + 1 < argc) value = argv[i + 1];
    if (arg.starts_with(flag + "=")) value = arg.substr(flag.size() + 1);
  }
  return value;
}

}  // namespace

train::Options parse_train_options(CLI::App& app, int argc, char** argv) {
  std::string config = peek(argc, argv, "--config"), model = peek(argc, argv, "--model");
  nlohmann::json file = nlohmann::json::object();
  if (!config.empty()) {
    file = parse_json(read_file(config, ExitCode::usage), config, ExitCode::usage);
    if (model.empty() && file.is_object() && file.contains("model") && file["model"].is_string())
      model = file["model"].get<std::string>();
  }
  train::Options options = train::default_options(model.empty() ? train::Options().model : model);
  train::apply_json(options, file, config);

  // What a person adds to a script's command line wins.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--config", config, "options from a file, such as args.json; flags win over it");
  train::each_option(options, [&](const train::OptionInfo& info, auto& value) {
    using V = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<V, bool>) {
      app.add_flag(info.flags, value, info.help);
    } else {
      CLI::Option* option = app.add_option(info.flags, value, info.help);
      if constexpr (std::is_arithmetic_v<V>) option->capture_default_str();
      if constexpr (std::is_same_v<V, train::Pair> || std::is_same_v<V, train::Triple>)
        option->default_str(fmt::format("{}", fmt::join(value, " ")));
      if constexpr (std::is_same_v<V, std::string>)
        if (!value.empty()) option->default_str(value);
    }
  });
  parse(app, argc, argv);
  return options;
}

}  // namespace sg::tools
