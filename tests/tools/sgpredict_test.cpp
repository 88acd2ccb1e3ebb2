#include "data/decode.h"
#include "tests/tools/programs.h"

namespace sg {
namespace {

using test::contains, test::run_program;

struct Folder : test::TemporaryFolder {
  Folder() {
    test::save_as_checkpoint(*test::nano(), *this / "run.safetensors");
    test::put(*this / "a.png", test::png_image(50, 81));
    test::put(*this / "b.png", test::png_image(28, 28));
    test::put(*this / "broken.png", test::png_image(50, 81).substr(0, 200));
  }
  std::string operator()(const std::string& name) const { return (*this / name).string(); }
  test::Ran predict(const std::string& arguments) const {
    return run_program(fmt::format("sgpredict --device cpu --checkpoint {} {}",
                                   (*this)("run.safetensors"), arguments));
  }
  data::Image read(const std::string& name) const {
    const std::string bytes = read_file(*this / name);
    return data::decode({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, name);
  }
};

}  // namespace

TEST_CASE("sgpredict: named classes, the most probable first") {
  const Folder folder;
  const auto ran = folder.predict(folder("a.png") + " --json");
  REQUIRE(ran.code == 0);
  const nlohmann::json classes = ran.json()[0]["classes"];
  REQUIRE(classes.size() == 3);
  double sum = 0, before = 1;
  std::vector<std::string> names;
  for (const auto& c : classes) {
    CHECK(c["probability"] <= before);
    before = c["probability"], sum += before;
    names.push_back(c["name"]);
  }
  CHECK(sum == doctest::Approx(1).epsilon(1e-12));
  std::ranges::sort(names);
  CHECK(names == std::vector<std::string>{"cat", "dog", "owl"});

  const auto text = folder.predict(folder("a.png") + " --top 1");
  CHECK(text.code == 0);
  CHECK(contains(text.out, classes[0]["name"]));
  CHECK_FALSE(contains(text.out, classes[1]["name"]));
}

TEST_CASE("sgpredict: a broken image is named, the others are done, the exit code is 3") {
  const Folder folder;
  const auto ran = folder.predict(fmt::format("{} {} {} {}", folder("a.png"), folder("broken.png"),
                                              folder("missing.png"), folder("b.png")));
  CHECK(ran.code == 3);
  CHECK(contains(ran.out, "a.png"));
  CHECK(contains(ran.out, "b.png"));
  CHECK(contains(ran.err, "broken.png"));
  CHECK(contains(ran.err, "missing.png"));
  CHECK_FALSE(contains(ran.out, "broken.png"));
}

TEST_CASE("sgpredict: significance maps as PNG") {
  const Folder folder;
  REQUIRE(folder.predict(folder("a.png") + " --significance " + folder("map.png")).code == 0);
  const data::Image panel = folder.read("map.png");
  CHECK(panel.height == 224);
  CHECK(panel.width > 4 * 224);

  const auto several = folder.predict(fmt::format("{0} {1} {0} --significance {2}", folder("a.png"),
                                                  folder("b.png"), folder("m.png")));
  REQUIRE(several.code == 0);
  CHECK(folder.read("m-a.png").pixels == panel.pixels);
  CHECK(folder.read("m-a-2.png").pixels == panel.pixels);
  CHECK(folder.read("m-b.png").height == 224);
  CHECK_FALSE(std::filesystem::exists(folder / "m.png"));
}

TEST_CASE("sgpredict: weights alone need the model's name, and give the same") {
  const Folder folder;
  test::save_as_weights(*test::nano(), folder / "weights.safetensors");
  const std::string arguments = fmt::format("sgpredict --device cpu --json --checkpoint {} {}",
                                            folder("weights.safetensors"), folder("a.png"));
  const auto unnamed = run_program(arguments);
  CHECK(unnamed.code == 2);
  CHECK(contains(unnamed.err, "--model"));
  const auto named = run_program(arguments + " --model sgformer_nano");
  REQUIRE(named.code == 0);
  const auto known = folder.predict(folder("a.png") + " --json").json();
  for (size_t i = 0; i < 3; ++i) {
    CHECK(named.json()[0]["classes"][i]["index"] == known[0]["classes"][i]["index"]);
    CHECK(named.json()[0]["classes"][i]["probability"] == known[0]["classes"][i]["probability"]);
  }
  CHECK(contains(named.err, "weights.safetensors: the weights (none are averaged)"));
  CHECK(contains(named.err, "no class names"));
  const auto averaged = run_program(arguments + " --model sgformer_nano --ema");
  CHECK(averaged.code == 4);
  CHECK(contains(averaged.err, "holds no averaged (EMA) weights"));
  const auto other = run_program(arguments + " --model sgformer_s");
  CHECK(other.code == 4);
}

TEST_CASE("sgpredict: a checkpoint knows its classes and images whatever its name") {
  const Folder folder;
  std::filesystem::copy(folder / "run.safetensors", folder / "best.pth");
  const auto renamed = run_program(fmt::format("sgpredict --device cpu --json --checkpoint {} {}",
                                               folder("best.pth"), folder("a.png")));
  REQUIRE(renamed.code == 0);
  CHECK(renamed.json() == folder.predict(folder("a.png") + " --json").json());
}

TEST_CASE("sgpredict: wrong arguments and files") {
  const Folder folder;
  CHECK(run_program("sgpredict").code == 2);
  CHECK(folder.predict("").code == 2);
  CHECK(folder.predict(folder("a.png") + " --top 0").code == 2);
  CHECK(run_program("sgpredict --device cpu --checkpoint /nowhere.safetensors " + folder("a.png"))
            .code == 4);
}

}  // namespace sg
