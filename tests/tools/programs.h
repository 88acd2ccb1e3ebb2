// Running the programs as a person does, and files for them to work on.
#pragma once
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "data/image.h"
#include "sgformer/classifier.h"
#include "sgformer/segment/segmentor.h"
#include "tests/support/files.h"

namespace sg::test {

struct Ran {
  int code;  // exit code; 128 + n after signal n
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};
// "sginfo sgformer_s --json" with the folder of the program before it, for a shell.
std::string program(const std::string& command);
Ran run_program(const std::string& command);

// Whether this CPU multiplies bf16, without which no program trains in it; where it does not, the
// case is skipped.
bool have_cpu_bf16();

// sgformer_nano of three classes, "cat", "dog" and "owl", with initial weights.
std::unique_ptr<sgformer::Classifier> nano();
void save_as_checkpoint(const sgformer::Classifier& model, const std::filesystem::path& path);
void save_as_weights(const sgformer::Classifier& model, const std::filesystem::path& path);

// sgformer_nano with UperNet of three classes, initial weights, and running statistics that differ.
std::unique_ptr<sgformer::Segmentor> nano_segmentor();
void save_as_checkpoint(const sgformer::Segmentor& model, const std::filesystem::path& path);

// A smooth image, as PNG.
std::string png_image(int height, int width);

}  // namespace sg::test
