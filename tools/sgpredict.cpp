// sgpredict: what a model sees in images.
#include <fmt/format.h>

#include <set>

#include "core/cpu/parallel.h"
#include "data/png_write.h"
#include "infer/model_file.h"
#include "io/file.h"
#include "report/significance_image.h"
#include "tools/common/announce.h"
#include "tools/common/options.h"

namespace {

namespace fs = std::filesystem;

struct Guess {
  int64_t index;
  std::string name;
  double probability;
};

std::vector<Guess> best_of(const sg::infer::Prediction& prediction,
                           const std::vector<std::string>& names, int64_t top) {
  std::vector<Guess> best;
  for (const auto& [i, probability] : sg::infer::top_classes(prediction, top)) {
    const bool named = size_t(i) < names.size();
    best.push_back({i, named ? names[size_t(i)] : fmt::format("class {}", i), probability});
  }
  return best;
}

// OUT.png for one image; for several OUT-<name>.png, numbered where two have the same name.
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

void write_png(const fs::path& path, const sg::data::Image& image) {
  const std::vector<uint8_t> png = sg::data::encode_png(image);
  sg::write_file(path, {reinterpret_cast<const char*>(png.data()), png.size()});
}

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
        "Tells the classes of images (JPEG, PNG, BMP, GIF, PPM; any size), the most probable "
        "first. Images that cannot be read are reported, the others done, and the exit code is "
        "3. A checkpoint of sgtrain knows its model; of weights alone say it with --model.");
    sg::train::Options shared;
    std::string checkpoint, significance;
    std::vector<std::string> images;
    std::optional<bool> ema;
    int64_t top = 5;
    bool json = false;
    app.add_option("--checkpoint", checkpoint, "weights: .safetensors or .pth")->required();
    app.add_option("image", images, "images")->required();
    shared.model.clear();
    sg::tools::add_options(app, shared, {"model", "img-size"});
    sg::tools::add_options(app, shared, sg::tools::kModelFlags);
    sg::tools::add_options(app, shared, {"device", "dtype", "threads"});
    sg::tools::add_ema_flags(app, ema);
    app.add_option("--top", top, "classes to show")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    app.add_option("--significance", significance,
                   "PNG to write: the image, and over it the significance map of each stage; "
                   "OUT-<name>.png for several images");
    app.add_flag("--json", json, "JSON on standard output");
    sg::tools::parse(app, shared, argc, argv);
    if (shared.threads) sg::set_num_threads(int(*shared.threads));
    const sg::Compute compute = sg::parse_compute(shared.device, shared.dtype);
    sg::tools::announce(compute);

    const auto file = sg::infer::load_model(
        checkpoint,
        {.ema = ema,
         .model = shared.model,
         .change = [&](auto config) { return sg::train::apply(shared, std::move(config)); },
         .compute = compute});
    sg::tools::announce(file);
    sg::infer::Preprocessing preprocessing = file.preprocessing;
    if (shared.img_size) preprocessing.transform.img_size = int(*shared.img_size);
    const sg::infer::Predictor predict(*file.model, preprocessing);

    PanelPaths panels(significance, images.size() > 1);
    nlohmann::json results = nlohmann::json::array();
    auto code = sg::ExitCode::ok;
    for (const std::string& image : images) try {
        const sg::data::Image pixels = predict.load(image);
        const auto prediction = predict({&pixels, 1}, !significance.empty())[0];
        if (!significance.empty())
          write_png(panels(image), sg::report::significance_panel(pixels, prediction.significance));
        const auto best = best_of(prediction, file.class_names, top);
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
