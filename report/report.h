// report.html: one page that needs no other file, written anew after every epoch.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sg::report {

// A validation picture and what the model makes of it.
struct ReportSample {
  std::string panel;  // PNG: the picture, and the significance of each stage over it
  std::string truth, prediction;
  double probability = 0;
  bool correct = false;
};

// A row of the configuration.
struct Setting {
  std::string name, value, help;
  bool changed = false;  // not the default of this model
};

struct Report {
  std::string title;  // "sgformer_s on imagenet"
  std::string data;   // what was learnt from, in a sentence
  std::vector<Setting> configuration;
  std::vector<nlohmann::json> rows;  // of metrics.jsonl
  int64_t epoch_steps = 1, epochs = 1, parameters = 0;
  bool finished = false;
  std::vector<ReportSample> samples;
};

std::string report_html(const Report& report);

// Names and values of what this process runs on.
std::vector<std::pair<std::string, std::string>> machine();

std::string grouped(int64_t n);  // 1,281,167

std::string base64(std::string_view bytes);

}  // namespace sg::report
