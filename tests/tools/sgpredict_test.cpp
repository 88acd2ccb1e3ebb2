#include "data/decode.h"
#include "tests/tools/programs.h"
#include "tools/common/images.h"

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

TEST_CASE("sgpredict: folders, lists and standard input; the same for any batch") {
  const Folder folder;
  std::filesystem::create_directories(folder / "set/x");
  test::put(folder / "set/x/c.png", test::png_image(40, 30));
  test::put(folder / "set/d.png", test::png_image(30, 40));
  test::put(folder / "set/notes.txt", "no image");
  test::put(folder / "list", fmt::format("{}\r\n\n{}", folder("a.png"), folder("b.png")));
  const auto names = [&](const test::Ran& ran) {
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    std::string all;
    for (const auto& j : ran.json())
      all += std::filesystem::path(j["image"].get<std::string>()).filename().string() + " ";
    return all;
  };
  const auto whole = folder.predict(fmt::format("--json {} @{}", folder("set"), folder("list")));
  CHECK(names(whole) == "d.png c.png a.png b.png ");
  CHECK(names(folder.predict("--json --list " + folder("list"))) == "a.png b.png ");
  CHECK(names(folder.predict("--json - < " + folder("list"))) == "a.png b.png ");
  // With one image per batch, the rounding of the matmuls may differ.
  const auto one =
      folder.predict(fmt::format("--json -b 1 -j 0 {} @{}", folder("set"), folder("list")));
  for (size_t i = 0; i < 4; ++i) {
    const double p = whole.json()[i]["classes"][0]["probability"];
    CHECK(one.json()[i]["classes"][0]["probability"] == doctest::Approx(p).epsilon(1e-4));
  }
  // As find -print0 and Windows write lists; with a folder in it.
  test::put(folder / "zeros", folder("a.png") + '\0' + folder("b.png") + '\0');
  CHECK(names(folder.predict("--json --list " + folder("zeros"))) == "a.png b.png ");
  test::put(folder / "mark", "\xEF\xBB\xBF" + folder("b.png") + "\r\n" + folder("set") + "\r\n");
  CHECK(names(folder.predict("--json --list " + folder("mark"))) == "b.png d.png c.png ");
  const auto binary = folder.predict("- < " + folder("a.png"));
  CHECK(binary.code == 3);
  CHECK(contains(binary.err, "binary data"));
  // Names that look like flags or lists.
  for (const char* name : {"-x.png", "@x.png"}) test::put(folder / name, test::png_image(30, 30));
  const std::string there = fmt::format("cd {} && ", folder.path().string());
  const auto odd = std::system(
      fmt::format("{}{} --checkpoint run.safetensors --csv --topk 1 @x.png -- -x.png > out 2> err",
                  there, test::program("sgpredict"))
          .c_str());
  CHECK(odd == 0);
  CHECK(contains(read_file(folder / "out"), "\n@x.png,,1,"));
  CHECK(contains(read_file(folder / "out"), "\n-x.png,,1,"));
  std::filesystem::create_directory(folder / "none");
  CHECK(folder.predict(folder("none")).code == 3);
  CHECK(folder.predict("@" + folder("nowhere")).code == 3);
}

TEST_CASE("sgpredict: CSV, and files of results with what could not be read in its place") {
  const Folder folder;
  test::put(folder / "a, \"b\".png", test::png_image(30, 40));
  const std::string images =
      fmt::format("'{}' {} {}", folder("a, \"b\".png"), folder("broken.png"), folder("b.png"));
  const auto csv = folder.predict("--csv --topk 1 " + images);
  CHECK(csv.code == 3);
  CHECK(contains(csv.out, "image,label,rank,index,name,probability,error\n"));
  CHECK(contains(csv.out, "a, \"\"b\"\".png\",,1,"));
  CHECK(std::ranges::count(csv.out, '\n') == 4);
  CHECK(contains(csv.err, "1 of 3 images could not be read"));

  for (const char* name : {"r.json", "r.jsonl"}) {
    CHECK(folder.predict(fmt::format("--results-file {} {}", folder(name), images)).code == 3);
    std::string text = read_file(folder / name);
    if (contains(name, "jsonl")) {
      CHECK(std::ranges::count(text, '\n') == 3);
      std::ranges::replace(text, '\n', ',');
      text = "[" + text.substr(0, text.size() - 1) + "]";
    }
    const auto array = nlohmann::json::parse(text);
    CHECK(array[0]["classes"].size() == 3);
    CHECK(contains(array[1]["error"], "broken.png"));
    CHECK(array[2]["image"] == folder("b.png"));
  }
  CHECK(folder.predict("--results-file r.txt " + images).code == 2);
  const auto nowhere =
      folder.predict(fmt::format("--results-file {} {}", folder("no/r.csv"), images));
  CHECK(nowhere.code == 2);
  CHECK(contains(nowhere.err, "there is no folder"));
}

TEST_CASE("results are in the file as they come, so that those of an ended run are there") {
  const Folder folder;
  for (const char* name : {"r.csv", "r.jsonl", "r.json"}) {
    CAPTURE(name);
    tools::ResultWriter writer(folder / name);
    writer.add({.image = "a", .classes = {{1, "dog", "", 0.75}}, .label = {}, .error = {}});
    writer.flush();
    const std::string begin = read_file(folder / name);
    CHECK(contains(begin, "dog"));
    writer.add({.image = "b", .classes = {}, .label = {}, .error = "broken"});
    writer.finish();
    const std::string whole = read_file(folder / name);
    CHECK(whole.starts_with(begin));
    if (name == std::string("r.json")) CHECK(whole == nlohmann::json::parse(whole).dump(2) + "\n");
    // Another run may begin anew, but no file of somebody's is taken for results.
    tools::check_results_file(folder / name, {});
    test::put(folder / name, "");
    tools::check_results_file(folder / name, {});
    test::put(folder / name, "mine");
    test::error_of(ExitCode::usage, [&] { tools::check_results_file(folder / name, {}); });
  }
}

TEST_CASE("sgpredict: significance maps as PNG") {
  const Folder folder;
  REQUIRE(folder.predict(folder("a.png") + " --significance " + folder("map.png")).code == 0);
  const data::Image panel = folder.read("map.png");
  CHECK(panel.height == 250);  // the part of 50 x 50 that is seen, enlarged to at least 224
  CHECK(panel.width > 4 * 250);

  const auto several = folder.predict(fmt::format("{0} {1} {0} --significance {2}", folder("a.png"),
                                                  folder("b.png"), folder("m.png")));
  REQUIRE(several.code == 0);
  CHECK(folder.read("m-a.png").pixels == panel.pixels);
  CHECK(folder.read("m-a-2.png").pixels == panel.pixels);
  CHECK(folder.read("m-b.png").height == 224);
  CHECK_FALSE(std::filesystem::exists(folder / "m.png"));

  // At the resolution of the image, however few pixels the network sees of it; into a folder.
  test::put(folder / "large.png", test::png_image(600, 900));
  test::put(folder / "huge.png", test::png_image(2100, 2000));
  REQUIRE(folder
              .predict(fmt::format("{} {} --significance {}", folder("large.png"),
                                   folder("huge.png"), folder("maps")))
              .code == 0);
  CHECK(folder.read("maps/large.png").height == 600);
  CHECK(folder.read("maps/huge.png").height == 1024);
}

TEST_CASE("sgpredict: no image is written over what another program wrote, or what is read") {
  const Folder folder;
  test::put(folder / "photo.jpg", "of somebody");
  const std::string checkpoint = read_file(folder / "run.safetensors");
  const auto refused = [&](const std::string& images, const std::string& out) {
    const auto ran = folder.predict(images + " --significance " + out);
    CHECK(ran.code == 2);
    CHECK_MESSAGE(contains(ran.err, out + ": "), ran.err);
    CHECK(ran.out == "");
  };
  refused(folder("a.png"), folder("photo.jpg"));
  refused(folder("b.png"), folder("b.png"));
  refused(folder("a.png"), folder("run.safetensors"));
  refused(folder("a.png"), "/dev/null");
  refused(folder("a.png"), folder("new.jpg"));  // no folder of that name is made
  CHECK_FALSE(std::filesystem::exists(folder / "new.jpg"));
  CHECK(read_file(folder / "photo.jpg") == "of somebody");
  CHECK(read_file(folder / "run.safetensors") == checkpoint);
  CHECK(read_file(folder / "b.png") == test::png_image(28, 28));
  test::put(folder / "m-b.png", "of somebody");
  const auto several = folder.predict(
      fmt::format("{} {} --significance {}", folder("a.png"), folder("b.png"), folder("m.png")));
  CHECK(several.code == 2);
  CHECK_FALSE(std::filesystem::exists(folder / "m-a.png"));
  // Its own of an earlier call, unless it is read now.
  for (int i = 0; i < 2; ++i)
    CHECK(folder.predict(folder("a.png") + " --significance " + folder("map.png")).code == 0);
  std::filesystem::create_symlink(folder / "map.png", folder / "link.png");
  refused(folder("map.png"), folder("link.png"));
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
