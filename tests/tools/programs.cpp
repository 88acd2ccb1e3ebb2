#include "tests/tools/programs.h"

#include <sys/wait.h>

#include "core/cpu/bf16_products.h"
#include "data/png_write.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "nn/state.h"
#include "setups/setups.h"
#include "sgformer/config_json.h"
#include "sgformer/weights.h"
#include "tests/support/paths.h"
#include "tests/support/skip.h"
#include "train/options.h"

namespace sg::test {

std::string program(const std::string& command) {
  return fmt::format("{}/{}", program_folder().string(), command);
}

Ran run_program(const std::string& command) {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string(), err = (folder / "err").string();
  const int status = std::system(fmt::format("{} >{} 2>{}", program(command), out, err).c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, read_file(out), read_file(err)};
}

bool have_cpu_bf16() {
  if (has_bf16_products()) return true;
  skip("this CPU does not multiply bf16");
  return false;
}

std::unique_ptr<sgformer::Classifier> nano() {
  sgformer::Config config = sgformer::find_config("sgformer_nano");
  config.classes = 3;
  auto model = std::make_unique<sgformer::Classifier>(config);
  model->parameters().allocate();
  model->parameters().initialize(7);
  return model;
}

void save_as_checkpoint(const sgformer::Classifier& model, const std::filesystem::path& path) {
  save_checkpoint(path, {nn::state_of(model.parameters()),
                         {{"step", 12},
                          {"args", train::to_json(setups::default_options("sgformer_nano"))},
                          {"model", sgformer::config_to_json(model.config())},
                          {"classes", {"cat", "dog", "owl"}}}});
}

void save_as_weights(const sgformer::Classifier& model, const std::filesystem::path& path) {
  write_safetensors(path, nn::state_of(model.parameters()));
}

std::unique_ptr<sgformer::Segmentor> nano_segmentor() {
  auto model = std::make_unique<sgformer::Segmentor>(
      sgformer::find_segmentor_config("sgformer_nano", "upernet", 3));
  model->parameters().allocate();
  model->parameters().initialize(7);
  double value = 1;
  for (const nn::Buffer& b : model->parameters().named_buffers()) Tensor(b.value).fill_(value++);
  return model;
}

void save_as_checkpoint(const sgformer::Segmentor& model, const std::filesystem::path& path) {
  save_checkpoint(path, {nn::state_of(model.parameters()),
                         {{"step", 12},
                          {"task", "segmentation"},
                          {"model", sgformer::config_to_json(model.config())},
                          {"classes", {"cat", "dog", "owl"}}}});
}

std::string png_image(int height, int width) {
  data::Image image;
  image.reset(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.row(y)[x * 3 + c] = uint8_t((x * 255 / width + c * y * 100 / height) % 256);
  const auto png = data::encode_png(image);
  return {png.begin(), png.end()};
}

}  // namespace sg::test
