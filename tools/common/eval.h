// What sgeval is asked for, and what it does for each task.
#pragma once
#include <array>
#include <filesystem>
#include <optional>
#include <string>

#include "report/console.h"
#include "tools/common/cli.h"
#include "train/options.h"

namespace sg::tools {

struct EvalRequest {
  train::Options options;
  std::optional<bool> ema;
  std::string results_file, confusion, topk = "1,5";
  bool json = false, per_class = false;
  // Of segmentation.
  bool ms = false, flip = false, keep_ratio = false;
  std::string slide;

  std::string weights;  // the file
  Compute compute;
};

// They compute, print and write; `app` knows which flags were given.
ExitCode eval_classification(const CLI::App& app, const EvalRequest& request,
                             report::Console& console);
ExitCode eval_segmentation(const CLI::App& app, const EvalRequest& request,
                           report::Console& console);
ExitCode eval_detection(const CLI::App& app, const EvalRequest& request, report::Console& console);

// Throws ExitCode::usage where one of these flags was given: they are of another task.
void refuse_flags(const CLI::App& app, const std::vector<std::string>& flags,
                  std::string_view task);
// Of an option that a run had, unless a flag says otherwise; throws ExitCode::checkpoint where it
// has another type. False where the run has none.
template <class T>
bool take_of_run(const nlohmann::json& state, const char* key, T& value, std::string_view file) {
  if (!state.contains("args") || !state["args"].contains(key)) return false;
  try {
    value = state["args"][key].get<T>();
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::checkpoint, "{}: {}: {}; it is of another version", file, key, e.what());
  }
  return true;
}
// Why a model gives no finite numbers.
std::string cause_of(const nn::ParameterStore& parameters);
// Each on a line of standard error; what a name cannot show is escaped in them.
void say_remarks(std::vector<std::string>& remarks, report::Console& console);

}  // namespace sg::tools
