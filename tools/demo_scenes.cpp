// demo_scenes: a data set for the demo of segmentation, where there is none: garments of
// Fashion-MNIST before a background, each pixel labelled with its garment.
#include <algorithm>
#include <filesystem>

#include "core/rng.h"
#include "data/dataset.h"
#include "data/png_write.h"
#include "io/file.h"
#include "tools/common/cli.h"

namespace {

namespace fs = std::filesystem;
using namespace sg;

constexpr int kHeight = 96, kWidth = 128, kGarments = 6;
// In the order of Fashion-MNIST's labels; in label images their numbers begin with 1.
constexpr const char* kNames[] = {"t-shirt", "trouser", "pullover", "dress", "coat",
                                  "sandal",  "shirt",   "sneaker",  "bag",   "boot"};
constexpr uint8_t kVisible = 32;  // of 255: darker pixels of a garment's image are its background

void draw_scene(const data::Dataset& garments, Random& random, data::Image& image,
                data::LabelImage& label) {
  image.reset(kHeight, kWidth), label.reset(kHeight, kWidth);
  std::array<int64_t, 3> sky{}, tint{};
  for (int64_t& v : sky) v = random.integer(20, 110);
  for (int y = 0; y < kHeight; ++y)
    for (int x = 0; x < kWidth; ++x)
      for (size_t c = 0; c < 3; ++c)
        image.row(y)[3 * size_t(x) + c] = uint8_t(sky[c] + y / 4 + random.integer(0, 15));
  std::ranges::fill(label.pixels, uint8_t{0});
  std::vector<uint8_t> buffer;
  data::Image garment;
  for (int k = 0; k < kGarments; ++k) {
    const int64_t i = random.integer(0, garments.size() - 1);
    garments.open(i, buffer)->read(garment);
    for (int64_t& v : tint) v = random.integer(128, 255);
    const auto top = int(random.integer(0, kHeight - garment.height));
    const auto left = int(random.integer(0, kWidth - garment.width));
    for (int y = 0; y < garment.height; ++y)
      for (int x = 0; x < garment.width; ++x) {
        const uint8_t grey = garment.row(y)[3 * x];
        if (grey < kVisible) continue;
        for (size_t c = 0; c < 3; ++c)
          image.row(top + y)[3 * size_t(left + x) + c] = uint8_t(grey * tint[c] / 255);
        label.pixels[size_t(top + y) * kWidth + size_t(left + x)] = uint8_t(1 + garments.label(i));
      }
  }
}

template <class Bytes>
void write(const fs::path& path, const Bytes& bytes) {
  write_file(path, std::string(bytes.begin(), bytes.end()));
}

}  // namespace

int main(int argc, char** argv) {
  return tools::run([&] {
    CLI::App app(
        "Draws scenes of Fashion-MNIST's garments into OUT/images and OUT/annotations, for sgtrain "
        "--task segmentation: label 0 is the background, 1 to 10 are garments.");
    std::string garments = "/usr/share/datasets/fashion-mnist", out;
    app.add_option("out", out, "folder to make; an error where it exists")->required();
    app.add_option("--garments", garments, "folder of Fashion-MNIST's IDX files")
        ->capture_default_str();
    tools::parse(app, argc, argv);
    if (fs::exists(out)) fail(ExitCode::usage, "{}: exists; name another folder", out);
    data::Image image;
    data::LabelImage label;
    for (const auto& [name, split, scenes] :
         {std::tuple{"train", data::Split::train, 600}, {"val", data::Split::val, 100}}) {
      const auto dataset = data::open_dataset(garments, split);
      const fs::path images = fs::path(out) / "images" / name,
                     labels = fs::path(out) / "annotations" / name;
      fs::create_directories(images), fs::create_directories(labels);
      for (int i = 0; i < scenes; ++i) {
        Random random(42, Purpose::order, uint64_t(split), uint64_t(i));
        draw_scene(*dataset, random, image, label);
        write(images / fmt::format("{:04}.png", i), data::encode_png(image));
        write(labels / fmt::format("{:04}.png", i),
              data::encode_label_png(label, data::class_palette(11)));
      }
    }
    std::string classes = "0\tbackground\n";
    for (size_t c = 0; c < std::size(kNames); ++c)
      classes += fmt::format("{}\t{}\n", c + 1, kNames[c]);
    write_file(fs::path(out) / "classes.txt", classes);
    fmt::print("{}: 600 scenes to learn from and 100 to evaluate on\n", out);
    return ExitCode::ok;
  });
}
