// report.html: one page that needs no other file, written anew after every epoch.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/findings.h"
#include "core/scores.h"

namespace sg::report {

// A row of the configuration.
struct Setting {
  std::string name, value, help;
  bool changed = false;  // not the default of this model
};

struct Report {
  std::string title;  // "sgformer_s on imagenet"
  std::string data;   // what was learnt from, in a sentence
  std::vector<Setting> configuration;
  // Of metrics.jsonl. A row of an epoch has "data_share", of the steps' time; of a run of several
  // processes also means of its steps: "step_seconds", "comm_seconds" in which sums between
  // processes ran, "comm_exposed_seconds" of these that computation waited.
  std::vector<nlohmann::json> rows;
  ScoreSchema scores{};
  int64_t epoch_steps = 1, epochs = 1, parameters = 0;
  bool finished = false;
  Gallery samples{};    // the first of the galleries
  Findings findings{};  // of the last evaluation
};

std::string report_html(const Report& report);
bool is_own_report(const std::string& html);  // whether report_html() made this page

// Names and values of what this process runs on.
std::vector<std::pair<std::string, std::string>> machine();

std::string grouped(int64_t n);  // 1,281,167

std::string base64(std::string_view bytes);

}  // namespace sg::report
