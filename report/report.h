// report.html: one page that needs no other file, written anew after every epoch.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/options.h"

namespace sg::train {

// A validation picture and what the model makes of it.
struct ReportSample {
  std::string panel;  // PNG: the picture, and the significance of each stage over it
  std::string truth, prediction;
  double probability = 0;
  bool correct = false;
};

struct Report {
  Options options;
  std::vector<nlohmann::json> rows;  // of metrics.jsonl
  int64_t epoch_steps = 1, epochs = 1, parameters = 0, train_images = 0, eval_images = 0;
  bool finished = false;
  std::vector<ReportSample> samples;
};

std::string report_html(const Report& report);

// Names and values of what this process runs on.
std::vector<std::pair<std::string, std::string>> machine();

std::string base64(std::string_view bytes);

}  // namespace sg::train
