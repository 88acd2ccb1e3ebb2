// sgpredict: what a model sees in pictures.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/cpu/parallel.h"
#include "data/png_write.h"
#include "infer/model_file.h"
#include "io/file.h"
#include "report/significance_image.h"
#include "tools/common/model_options.h"

namespace {

namespace fs = std::filesystem;

struct Guess {
  int64_t index;
  std::string name;
  double probability;
};

// Softmax in double; the `top` most probable, of equal ones the first.
std::vector<Guess> best_of(const sg::Tensor& logits, const std::vector<std::string>& names,
                           int64_t top) {
  const std::vector<float> x = sg::to_vector<float>(logits);
  const double most = *std::ranges::max_element(x);
  double sum = 0;
  for (const float v : x) sum += std::exp(double(v) - most);
  if (!std::isfinite(sum))
    sg::fail(sg::ExitCode::nonfinite, "the model's output is not finite; its weights are damaged");
  std::vector<int64_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](int64_t a, int64_t b) { return x[size_t(a)] > x[size_t(b)]; });
  order.resize(size_t(std::min(top, int64_t(order.size()))));
  std::vector<Guess> best;
  for (const int64_t i : order) {
    const bool named = size_t(i) < names.size();
    best.push_back({i, named ? names[size_t(i)] : fmt::format("class {}", i),
                    std::exp(double(x[size_t(i)]) - most) / sum});
  }
  return best;
}

// OUT.png for one picture; for several OUT-<name>.png, numbered where two have the same name.
class PanelPaths {
 public:
  PanelPaths(fs::path out, bool several) : out_(std::move(out)), several_(several) {}
  fs::path operator()(const std::string& image) {
    if (!several_) return out_;
    const std::string stem =
        fmt::format("{}-{}", out_.stem().string(), fs::path(image).stem().string());
    std::string name = stem;
    for (int i = 2; !taken_.insert(name).second; ++i) name = fmt::format("{}-{}", stem, i);
    return out_.parent_path() / (name + out_.extension().string());
  }

 private:
  fs::path out_;
  bool several_;
  std::set<std::string> taken_;
};

class Predictor {
 public:
  Predictor(const sg::train::ModelFile& file, const sg::train::Options& options)
      : file_(file),
        transform_(sg::train::transforms(options)),
        stats_(sg::train::channel_stats(options)) {}

  // The picture is cut as evaluation cuts it.
  std::vector<Guess> operator()(const std::string& path, int64_t top, const fs::path& panel) const {
    const sg::autograd::NoGrad no_grad;
    const sg::data::Image image = sg::data::load_eval_image(path, transform_);
    const sg::Tensor pixels = sg::from_vector(image.pixels, {1, image.height, image.width, 3});
    const sg::nn::ParameterStore& parameters = file_.model->parameters();
    auto output = file_.model->forward(
        sg::normalize(pixels.to(parameters.device()), stats_, parameters.dtype()),
        {.significance = !panel.empty()});
    for (auto& s : output.significance) s.map = s.map.to(sg::Device{});
    if (!panel.empty()) write(panel, sg::train::significance_panel(image, output.significance, 0));
    return best_of(output.logits, file_.class_names, top);
  }

 private:
  static void write(const fs::path& path, const sg::data::Image& image) {
    const std::vector<uint8_t> png = sg::data::encode_png(image);
    sg::write_file(path, {reinterpret_cast<const char*>(png.data()), png.size()});
  }

  const sg::train::ModelFile& file_;
  sg::data::TransformConfig transform_;
  sg::ChannelStats stats_;
};

void print(const std::string& image, const std::vector<Guess>& best) {
  fmt::print("{}\n", image);
  for (const Guess& g : best) fmt::print("  {:6.2f} %  {}\n", 100 * g.probability, g.name);
}

nlohmann::json to_json(const std::string& image, const std::vector<Guess>& best) {
  nlohmann::json j{{"image", image}, {"classes", nlohmann::json::array()}};
  for (const Guess& g : best)
    j["classes"].push_back({{"index", g.index}, {"name", g.name}, {"probability", g.probability}});
  return j;
}

}  // namespace

int main(int argc, char** argv) {
  return sg::tools::run([&] {
    CLI::App app(
        "Tells the classes of pictures (JPEG, PNG, BMP, GIF, PPM; any size), the most probable "
        "first. Pictures that cannot be read are reported, the others done, and the exit code is "
        "3.");
    sg::tools::ModelOptions model_options;
    std::string checkpoint, significance, device = "cpu", dtype = "auto";
    std::vector<std::string> images;
    std::optional<int64_t> img_size;
    std::optional<bool> ema;
    int64_t top = 5;
    int threads = 0;
    bool json = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth")->required();
    app.add_option("image", images, "pictures")->required();
    app.add_option("--model", model_options.model, "for files of weights alone: the model's name");
    model_options.add_to(app);
    sg::tools::add_ema_flags(app, ema);
    app.add_option("--top", top, "classes to show")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app.add_option("--significance", significance,
                   "PNG to write: the picture, and over it the significance map of each stage; "
                   "OUT-<name>.png for several pictures");
    app.add_option("--img-size", img_size, "pixels a side; default: the model's own")
        ->check(CLI::Range(1, 8192));
    app.add_option("--threads", threads, "threads that compute; default: all cores")
        ->check(CLI::Range(1, 4096));
    app.add_option("--dtype", dtype, sg::train::kDtypeHelp)->capture_default_str();
    app.add_option("--device", device, sg::train::kDeviceHelp)->capture_default_str();
    app.add_flag("--json", json, "JSON on standard output");
    model_options.model.clear();
    sg::tools::parse(app, argc, argv);
    if (threads) sg::set_num_threads(threads);

    const auto file = sg::train::load_model(
        checkpoint,
        {.ema = ema,
         .model = model_options.model,
         .change =
             [&](sg::sgformer::Config config) { return model_options.apply_to(std::move(config)); },
         .compute = sg::train::parse_compute(device, dtype)});
    sg::train::Options options = file.options;
    if (img_size) options.img_size = img_size;
    const Predictor predict(file, options);

    PanelPaths panels(significance, images.size() > 1);
    nlohmann::json results = nlohmann::json::array();
    auto code = sg::ExitCode::ok;
    for (const std::string& image : images) try {
        const auto best = predict(image, top, significance.empty() ? fs::path() : panels(image));
        if (json)
          results.push_back(to_json(image, best));
        else
          print(image, best);
      } catch (const sg::Error& e) {
        if (e.code() != sg::ExitCode::data) throw;
        std::fflush(stdout);
        fmt::print(stderr, "error: {}\n", e.what());
        if (json) results.push_back({{"image", image}, {"error", e.what()}});
        code = e.code();
      }
    if (json) fmt::print("{}\n", results.dump(2));
    return code;
  });
}
