#include <sys/wait.h>

#include "data/decode.h"
#include "tests/tools/programs.h"

namespace sg {
namespace {

using namespace test;

// The folder of a run, images of its three classes, and some without classes.
struct Folder : TemporaryFolder {
  Folder() {
    std::filesystem::create_directories(*this / "run/checkpoints");
    save_as_checkpoint(*nano(), *this / "run/checkpoints/best.safetensors");
    for (const char* name : {"cat", "dog", "owl"}) {
      std::filesystem::create_directories(*this / "val" / name);
      for (int i = 0; i < 3; ++i)
        put(*this / "val" / name / fmt::format("{}.png", i), png_image(20 + 9 * i, 30));
    }
    put(*this / "val/owl/broken.png", "no image");
    std::filesystem::create_directories(*this / "flat");
    for (int i = 0; i < 3; ++i)
      put(*this / "flat" / fmt::format("{}.png", i), png_image(20 + 9 * i, 30));
  }
  std::string operator()(const std::string& name) const { return (*this / name).string(); }
  Ran evaluate(const std::string& data, const std::string& arguments) const {
    return run_program(fmt::format("sgeval {} --device cpu --checkpoint {} {}", (*this)(data),
                                   (*this)("run"), arguments));
  }
};

}  // namespace

TEST_CASE("sgeval: a result that cannot be written is an error") {
  const Folder folder;
  const std::string command =
      program(fmt::format("sgeval {} --device cpu --checkpoint {}", folder("val"), folder("run")));
  const auto code = [&](const char* to) {
    return WEXITSTATUS(std::system((command + " 2>/dev/null " + to).c_str()));
  };
  CHECK(code(">/dev/full") == 1);
  CHECK(code(">&-") == 1);
  CHECK(code(">/dev/null") == 0);
}

TEST_CASE("sgeval: a run's folder is its best checkpoint; any top k, accuracy by class") {
  const Folder folder;
  const Ran ran = folder.evaluate("val", "--topk 1 2 3 --per-class");
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.err, folder("run/checkpoints/best.safetensors") + ": the "));
  CHECK(contains(ran.err, "1 of 10 images could not be read"));
  CHECK(contains(ran.out, " Acc@3 100.000 loss "));
  for (const char* line : {"class  images", "\ncat         3", "\nowl         3"})
    CHECK_MESSAGE(contains(ran.out, line), ran.out);

  const auto j = folder.evaluate("val", "--topk 2 --per-class --json").json();
  CHECK(j["skipped"] == 1);
  CHECK(j.contains("top2"));
  CHECK(!j.contains("top1"));
  CHECK(j["per_class"][0]["class"] == "cat");
  CHECK(j["per_class"][0]["images"] == 3);
  CHECK(folder.evaluate("val", "--topk 0").code == 2);
  CHECK(folder.evaluate("val", "--topk 1,x").code == 2);
  CHECK(run_program(fmt::format("sgeval {} --checkpoint {}", folder("val"), folder("flat"))).code ==
        4);
}

TEST_CASE("sgeval: what was predicted of each image agrees with the accuracy") {
  const Folder folder;
  const auto json = folder.evaluate("val", "--json --results-file " + folder("r.json")).json();
  const auto results = nlohmann::json::parse(read_file(folder / "r.json"));
  REQUIRE(results.size() == 10);
  int right = 0;
  for (const auto& r : results)
    if (r.contains("error"))
      CHECK(contains(r["image"].get<std::string>(), "broken.png"));
    else
      right += r["classes"][0]["name"] == r["label"];
  CHECK(json["top1"] == doctest::Approx(100.0 * right / 9));
  CHECK(folder.evaluate("val", "--results-file r.txt").code == 2);
}

TEST_CASE("sgeval: --confusion writes an image") {
  const Folder folder;
  REQUIRE(folder.evaluate("val", "--confusion " + folder("c.png")).code == 0);
  const std::string png = read_file(folder / "c.png");
  const auto size =
      data::probe({reinterpret_cast<const uint8_t*>(png.data()), png.size()}, "c.png");
  CHECK(size.height > 100);
}

TEST_CASE("sgeval: scores that cannot be written are an error") {
  const Folder folder;
  const std::filesystem::path err = folder / "err";
  const int status =
      std::system(fmt::format("{} >/dev/full 2>{}",
                              program(fmt::format("sgeval {} --device cpu --checkpoint {}",
                                                  folder("val"), folder("run"))),
                              err.string())
                      .c_str());
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(contains(read_file(err), "error: standard output: "));
}

TEST_CASE("sgeval: images without classes are predicted alone, into a file") {
  const Folder folder;
  const Ran refused = folder.evaluate("flat", "");
  CHECK(refused.code == 2);
  CHECK(contains(refused.err, "--results-file"));
  const Ran ran = folder.evaluate("flat", "--results-file " + folder("r.csv"));
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out, "nothing to evaluate, predictions alone"));
  CHECK(std::ranges::count(read_file(folder / "r.csv"), '\n') == 1 + 3 * 3);
  CHECK(folder.evaluate("flat", "--json --per-class").code == 2);
  std::filesystem::create_directories(folder / "flat/@eaDir");  // a system's own
  CHECK(folder.evaluate("flat", "--results-file " + folder("r.csv")).code == 0);

  put(folder / "flat/val.txt", "0.png cat\n1.png dog\n2.png owl\n");
  const Ran listed = folder.evaluate("flat", "--val-split val.txt");
  REQUIRE_MESSAGE(listed.code == 0, listed.err);
  CHECK(contains(listed.out, "Acc@1"));
  CHECK(folder.evaluate("flat", "--json --confusion " + folder("c.png")).code == 2);

  // What cannot be read ends it as it ends sgpredict, and stands in its place.
  put(folder / "flat/1.png", "no image");
  const Ran broken = folder.evaluate("flat", "--json --topk 1 2");
  CHECK(broken.code == 3);
  CHECK(contains(broken.err, "1 of 3 images could not be read"));
  REQUIRE(broken.json().size() == 3);
  CHECK(broken.json()[0]["classes"].size() == 2);
  CHECK(contains(broken.json()[1]["error"], "1.png"));
  const Ran strict = folder.evaluate("flat", "--json --max-broken-share 0");
  CHECK(strict.code == 3);
  CHECK(contains(strict.err, "--max-broken-share 0"));
}

}  // namespace sg
