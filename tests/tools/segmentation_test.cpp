// sgeval and sgpredict of segmentation.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "io/checkpoint.h"
#include "nn/state.h"
#include "sgformer/segment/segmentor.h"
#include "tests/support/scenes.h"
#include "tests/tools/programs.h"

namespace sg {
namespace {

using namespace test;
namespace fs = std::filesystem;

// A checkpoint of untrained weights, a data set, and photos.
struct Folder : TemporaryFolder {
  explicit Folder(bool reduce_zero_label = false) {
    sgformer::Segmentor model(sgformer::find_segmentor_config("sgformer_nano", "semantic_fpn",
                                                              reduce_zero_label ? 2 : 3));
    nn::ParameterStore& p = model.parameters();
    p.allocate();
    p.initialize(7);
    const std::vector<NamedTensor> tensors = nn::state_of(p);
    const std::vector<std::string> names = reduce_zero_label
                                               ? std::vector<std::string>{"ground", "box"}
                                               : std::vector<std::string>{"sky", "ground", "box"};
    save_checkpoint(*this / "model.safetensors",
                    {tensors,
                     {{"step", 1},
                      {"task", "segmentation"},
                      {"model", sgformer::config_to_json(model.config())},
                      {"classes", names},
                      {"args",
                       {{"model", "sgformer_nano"},
                        {"img_size", 32},
                        {"reduce_zero_label", reduce_zero_label}}}}});
    write_safetensors(*this / "weights.safetensors", tensors);
    put_scenes(*this / "data", "val", 4);
    fs::create_directories(*this / "photos");
    for (const auto& [name, h, w] : {std::tuple("a.png", 40, 60), {"b.png", 21, 90}})
      put(*this / "photos" / name, png_image(h, w));
  }
  std::string operator()(const std::string& name) const { return (*this / name).string(); }
  Ran evaluate(const std::string& arguments, const std::string& weights = "model") const {
    return run_program(fmt::format("sgeval {} --device cpu --checkpoint {}.safetensors {}",
                                   (*this)("data"), (*this)(weights), arguments));
  }
  Ran predict(const std::string& arguments) const {
    return run_program(fmt::format("sgpredict --device cpu --checkpoint {} {}",
                                   (*this)("model.safetensors"), arguments));
  }
};

data::LabelImage label_of(const fs::path& file) {
  const std::string bytes = read_file(file);
  data::LabelImage label;
  data::decode_label({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, file.string(),
                     label);
  return label;
}

}  // namespace

TEST_CASE("sgeval: of segmentation, the scores and a row a class; each image counts once") {
  const Folder folder;
  const Ran ran = folder.evaluate("");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  for (const char* said :
       {" * mIoU ", " mAcc ", " aAcc ", " loss 1.", "class   pixels", "\nground ", "\nbox "})
    CHECK_MESSAGE(contains(ran.out, said), ran.out);
  CHECK(contains(ran.out, "resized into (128, 32) and to multiples of 32 (AlignResize)"));
  const auto j = folder.evaluate("--json --per-class --confusion " + folder("c.csv")).json();
  CHECK(j["images"] == 4);
  CHECK(j["skipped"].empty());
  int64_t labelled = 0, pixels = 0, right = 0, in_file = 0;
  for (int i = 0; i < 4; ++i) labelled += (38 + i % 3) * (56 - i % 2);
  for (const auto& c : j["per_class"])
    pixels += c["pixels"].get<int64_t>(), right += c["right"].get<int64_t>();
  CHECK(j["pixels"] == labelled);
  CHECK(j["loss"] == doctest::Approx(std::log(3)).epsilon(0.2));  // of untrained weights
  CHECK(pixels == labelled);
  CHECK(j["aAcc"] == doctest::Approx(100.0 * double(right) / double(labelled)));
  const std::string csv = read_file(folder / "c.csv");
  CHECK(csv.starts_with("is \\ taken for,sky,ground,box\nsky,"));
  for (size_t at = 0; (at = csv.find_first_of(",", at)) != csv.npos; ++at)
    if (std::isdigit(csv[at + 1])) in_file += std::stoll(csv.substr(at + 1));
  CHECK(in_file == labelled);
  CHECK(folder.evaluate("--json --confusion " + folder("c.csv")).code == 0);  // over its own
  REQUIRE(folder.evaluate("--confusion " + folder("c.png")).code == 0);
  CHECK(read_file(folder / "c.png").starts_with("\x89PNG"));
}

TEST_CASE("sgeval: of segmentation, other ways to look at the images") {
  const Folder folder;
  const std::string plain = folder.evaluate("--json").json()["resize"];
  for (const char* how : {"--keep-ratio", "--image-scale 96 48", "--slide 24,16"}) {
    CAPTURE(how);
    const Ran ran = folder.evaluate(std::string("--json ") + how);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(ran.json()["images"] == 4);
    CHECK(ran.json()["resize"] != plain);
  }
  const Ran ms = folder.evaluate("--json --ms --flip");
  CHECK(contains(ms.json()["resize"], ", 6 ratios, flipped too"));
  CHECK(ms.json()["loss"] == doctest::Approx(std::log(3)).epsilon(0.2));
  CHECK(folder.evaluate("--slide 24,25").code == 2);
  CHECK(folder.evaluate("--slide x").code == 2);
  CHECK(folder.evaluate("--image-scale 5").code == 2);
}

TEST_CASE("sgeval: of segmentation, --reduce-zero-label=false wins over what the run had") {
  const Folder folder(true);
  put(folder / "data/classes.txt", "0\tsky\n1\tground\n2\tbox\n");
  CHECK(folder.evaluate("").code == 0);
  const Ran ran = folder.evaluate("--reduce-zero-label=false");  // 0 is a class: there are three
  CHECK(ran.code == 3);
  CHECK(contains(ran.err, "3 classes of the data, but the weights of"));
}

TEST_CASE(
    "sgeval: of segmentation, what is missing is named; flags of the other task are refused") {
  const Folder folder;
  fs::remove(folder / "data/annotations/val/001.png");
  const Ran ran = folder.evaluate("--json");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(ran.json()["images"] == 3);
  CHECK(contains(ran.json()["skipped"][0]["image"], "001.png"));
  CHECK(contains(ran.err, "1 of 4 images could not be read"));
  CHECK(contains(ran.err, "annotations/val/001.png"));
  CHECK(folder.evaluate("--json --max-broken-share 0").code == 3);
  CHECK(folder.evaluate("--topk 3").code == 2);
  CHECK(folder.evaluate("--task classification").code == 2);
  CHECK(folder.evaluate("--head upernet").code == 2);
  const Ran weights = folder.evaluate(
      "--json --task segmentation --head semantic_fpn --model sgformer_nano --image-scale 128 32",
      "weights");
  REQUIRE_MESSAGE(weights.code == 0, weights.err);
  CHECK(weights.json()["mIoU"] == ran.json()["mIoU"]);
  put(folder / "data/classes.txt", "sky\nground\n");
  CHECK(folder.evaluate("--json").code == 3);
}

TEST_CASE("sgpredict: of segmentation, label image, overlay and significance of each image") {
  for (const bool reduced : {false, true}) {
    const Folder folder(reduced);
    const Ran ran = folder.predict(folder("photos") + " --output " + folder("out/new"));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(contains(ran.out, "a.png -> "));
    CHECK(contains(ran.out, " %  "));
    for (const char* name : {"a", "b"})
      for (const char* ending : {".png", "-overlay.png", "-significance.png"})
        CHECK(fs::exists(folder / "out/new" / (std::string(name) + ending)));
    const data::LabelImage label = label_of(folder / "out/new/a.png");
    CHECK(label.height == 40);
    CHECK(label.width == 60);
    // As in the files that it was trained with: where 0 is no class, it does not occur.
    CHECK(*std::ranges::min_element(label.pixels) >= (reduced ? 1 : 0));
    CHECK(*std::ranges::max_element(label.pixels) <= 2);
    // Over files of its own, and JSON; in bf16.
    const Ran again = folder.predict("--json --top 1 --dtype bf16 --emulate-bf16 " +
                                     folder("photos/b.png") + " --output " + folder("out/new"));
    REQUIRE_MESSAGE(again.code == 0, again.err);
    const auto j = again.json();
    REQUIRE(j.size() == 1);
    CHECK(j[0]["labels"] == folder("out/new/b.png"));
    CHECK(j[0]["classes"].size() == 1);
    CHECK(j[0]["classes"][0]["share"] > 0.3);
  }
}

TEST_CASE("sgpredict: of segmentation, what others wrote is kept, and broken images are counted") {
  const Folder folder;
  CHECK(folder.predict(folder("photos")).code == 2);  // no --output
  fs::create_directories(folder / "out");
  put(folder / "out/a.png", "mine");
  const Ran kept = folder.predict(folder("photos") + " --output " + folder("out"));
  CHECK(kept.code == 2);
  CHECK(read_file(folder / "out/a.png") == "mine");
  fs::remove(folder / "out/a.png");
  // Not over what it reads, and one name twice is two files.
  CHECK(folder.predict(folder("photos/a.png") + " --output " + folder("photos")).code == 2);
  fs::create_directories(folder / "more");
  put(folder / "more/a.png", png_image(30, 30));
  put(folder / "photos/c.png", "no image");
  const Ran ran = folder.predict("--json " + folder("photos") + " " + folder("more/a.png") +
                                 " --output " + folder("out"));
  CHECK(ran.code == 3);
  CHECK(contains(ran.err, "1 of 4 images could not be read"));
  REQUIRE(ran.json().size() == 4);
  CHECK(contains(ran.json()[2]["error"], "c.png"));
  CHECK(ran.json()[3]["labels"] == folder("out/a-2.png"));
  CHECK(label_of(folder / "out/a-2.png").height == 30);
  // The same as CSV, into a file and to standard output.
  const Ran csv = folder.predict("--csv --top 1 --results-file " + folder("r.csv") + " " +
                                 folder("photos") + " --output " + folder("csv"));
  CHECK(csv.code == 3);
  CHECK(csv.out == read_file(folder / "r.csv"));
  std::istringstream rows(csv.out);
  std::string line;
  REQUIRE(std::getline(rows, line));
  CHECK(line == "image,labels,overlay,significance,rank,index,name,share,error");
  REQUIRE(std::getline(rows, line));
  CHECK(
      line.starts_with(fmt::format("{0}photos/a.png,{0}csv/a.png,{0}csv/a-overlay.png,"
                                   "{0}csv/a-significance.png,1,",
                                   folder(""))));
  REQUIRE((std::getline(rows, line) && std::getline(rows, line)));
  CHECK(line.starts_with(folder("photos/c.png") + ",,,,,,,,"));
  CHECK(contains(line, "c.png: "));
  CHECK_FALSE(std::getline(rows, line));
}

TEST_CASE("a classifier is no segmentor, to sgeval and sgpredict") {
  const Folder folder;
  save_as_checkpoint(*nano(), folder / "classifier.safetensors");
  CHECK(folder.evaluate("--ms", "classifier").code == 2);
  const Ran ran =
      run_program(fmt::format("sgpredict --device cpu --checkpoint {} {} --output {}",
                              folder("classifier.safetensors"), folder("photos"), folder("out")));
  CHECK(ran.code == 2);
  CHECK(contains(ran.err, "--output: the checkpoint is of classification"));
}

}  // namespace sg
