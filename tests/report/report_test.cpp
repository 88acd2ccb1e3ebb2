#include "report/report.h"

#include <doctest/doctest.h>

#include <cmath>

#include "report/chart.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("report: base64 of the standard's examples") {
  CHECK(report::base64("") == "");
  CHECK(report::base64("f") == "Zg==");
  CHECK(report::base64("fo") == "Zm8=");
  CHECK(report::base64("foobar") == "Zm9vYmFy");
  CHECK(report::base64("\xff\xff\xff") == "////");
}

TEST_CASE("chart: ticks are round and cover the range") {
  CHECK(report::ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(report::ticks(81, 92.5, 5) == std::vector<double>{80, 85, 90, 95});
  for (double high : {1e-9, 3.3e-4, 0.7, 12.0, 9e8}) {
    const auto t = report::ticks(0, high, 5);
    CHECK(t.size() <= 8);
    CHECK(t.front() == 0);
    CHECK(t.back() >= high);
  }
}

TEST_CASE("chart: draws one point, none, and what is not finite") {
  using Points = std::vector<std::pair<double, double>>;
  const auto draw = [](Points points) {
    return report::svg({"a <b>", "epoch", "{:.2f}", {{"s", std::move(points)}}});
  };
  CHECK(contains(draw({{1, 2}}), ">2.00<"));
  CHECK(!contains(draw({}), "<circle"));
  const std::string gap = draw({{1, 2}, {2, NAN}, {3, INFINITY}, {4, 3}});
  CHECK(!contains(gap, "nan"));
  CHECK(!contains(gap, "inf"));
  CHECK(contains(gap, "a &lt;b&gt;"));
  Points many;
  for (int i = 0; i < 100000; ++i) many.emplace_back(i, i % 7);
  CHECK(draw(many).size() < 20000);
}

TEST_CASE("report: one page, whole before and after the first epoch, nothing from elsewhere") {
  report::Report r;
  r.title = "sgformer_s on <pets>", r.data = report::grouped(1281167) + " training images.";
  r.configuration = {{"batch-size", "64", "images a forward pass", true}};
  r.epoch_steps = 10, r.epochs = 2;
  r.scores = {{.name = "top1", .label = "Acc@1", .title = "top-1", .chart = "Top-1", .unit = "%"},
              {.name = "loss", .label = "loss", .title = "validation loss", .digits = 3}};
  const std::string empty = report::report_html(r);
  CHECK(contains(empty, "1,281,167"));
  CHECK(contains(empty, "sgformer_s on &lt;pets&gt;"));

  r.rows = {{{"epoch", 0}, {"step", 1}, {"loss", 2.5}, {"lr", 1e-3}, {"images_per_second", 100.0}},
            {{"epoch", 0},
             {"step", 10},
             {"lr", 1e-3},
             {"train_loss", 2.0},
             {"seconds", 61.0},
             {"data_share", 0.23},
             {"eval_loss", 1.0},
             {"eval_top1", 75.0},
             {"eval_top5", 100.0},
             {"eval_model_top1", 70.0},
             {"eval_model_loss", 1.5}}};
  r.samples = {"Where it looks",
               "Validation images.",
               {{"png", "cat and its significance", "dog", "50 %, but it is cat", false}},
               true};
  r.findings = {
      .notes = {"3 of 50 <images> were left out."},
      .matrices = {{"Confusion", "Counts.", "is", "taken for", {"cat", "dog"}, {5, 1, 0, 7}}},
      .tables = {{"By class", "Text.", {"class", "right", "for"}, {{"c<at", "83.3 %", "dog"}}}},
      .galleries = {{"Worst", "The worst.", {{"wrong", "a.png", "owl", "\nis <cat>\n9 %", false}}},
                    {"Mixed", "As seen.", {{"mixed", "", "0.70 cat + 0.30 dog", "mixup"}}, true}}};
  const std::string page = report::report_html(r);
  for (const char* part :
       {"3 of 50 &lt;images&gt; were left out.", "<h2>Confusion</h2>", "class=\"matrix\"",
        "<td>c&lt;at</td><td class=\"number\">83.3 %</td><td>dog</td>", "<h2>Worst</h2>",
        "<div class=\"samples small\">", "<p class=\"wrong\"><strong>owl</strong>",
        "<p class=\"\"><strong>0.70 cat + 0.30 dog</strong> mixup</p>",
        "data:image/png;base64,d3Jvbmc=", "<span>is &lt;cat&gt;</span><span>9 %</span></p>"})
    CHECK(contains(page, part));
  for (const char* part :
       {"75.00 %", "1:01", ">23 %<", "dog", "but it is cat", "data:image/png;base64,cG5n",
        "prefers-color-scheme: dark", "Learning rate", "batch-size"})
    CHECK(contains(page, part));
  size_t wide = 0;  // two galleries of panels, one of single images
  for (size_t at = page.find("<div class=\"samples\">"); at != page.npos;
       at = page.find("<div class=\"samples\">", at + 1))
    ++wide;
  CHECK(wide == 2);
  for (const char* part : {"http:", "https:", "<script", "<link", "@import", ">nan"})
    CHECK(!contains(page, part));
}

TEST_CASE(
    "report: scores are shown as their schema says, and the first of equal ones is the best") {
  report::Report r;
  r.title = "toy", r.data = "Drawn images.", r.epoch_steps = 1, r.epochs = 3;
  r.scores = {{.name = "error",
               .label = "error",
               .title = "wrong pixels",
               .chart = "Wrong pixels",
               .unit = "%",
               .digits = 1,
               .more_is_better = false},
              {.name = "width", .label = "width", .title = "mean width", .digits = 0}};
  for (const double error : {30.0, 12.5, 12.5})
    r.rows.push_back({{"epoch", r.rows.size()},
                      {"step", r.rows.size() + 1},
                      {"train_loss", 1.0},
                      {"eval_error", error},
                      {"eval_width", 7.0}});
  const std::string page = report::report_html(r);
  for (const char* part :
       {"<b>12.5 %</b><span>wrong pixels, best of all (epoch 2)", "<b>7</b><span>mean width",
        "<h3>Wrong pixels, %</h3>", "<th class=\"number\">mean width</th>",
        "<td class=\"number\">30.0</td><td class=\"number\">7</td>"})
    CHECK(contains(page, part));
  for (const char* part : {"top-1", "validation loss", "Where it looks"})
    CHECK(!contains(page, part));
}

TEST_CASE(
    "report: runs of several processes show what communication took, and what of it is hidden") {
  report::Report r;
  r.title = "toy", r.data = "Drawn images.", r.epoch_steps = 1, r.epochs = 3;
  for (int i = 0; i < 2; ++i)
    r.rows.push_back({{"epoch", i},
                      {"step", i + 1},
                      {"train_loss", 1.0},
                      {"data_share", 0.25},
                      {"step_seconds", 0.2},
                      {"seconds", 1.0},
                      {"lr", 1e-3}});
  const std::string alone = report::report_html(r);
  for (const char* part : {"of it hidden", "communication", "Seconds of a step"})
    CHECK(!contains(alone, part));
  // Resumed on one process; before, sums of 80 ms of which 20 were waited for.
  r.rows[0]["comm_seconds"] = 0.08, r.rows[0]["comm_exposed_seconds"] = 0.02;
  r.rows[1]["comm_seconds"] = 0.0, r.rows[1]["comm_exposed_seconds"] = 0.0;
  r.rows.push_back(
      {{"epoch", 2}, {"step", 3}, {"train_loss", 1.0}, {"seconds", 1.0}, {"lr", 1e-3}});
  const std::string page = report::report_html(r);
  for (const char* part :
       {"<th class=\"number\">computing, a step</th><th class=\"number\">communication, a step</th>"
        "<th class=\"number\">of it hidden</th>",
        "<td class=\"number\">130.0 ms</td><td class=\"number\">80.0 ms</td>"
        "<td class=\"number\">75 %</td><td class=\"number\">25 %</td>",
        "<td class=\"number\">150.0 ms</td><td class=\"number\">0.0 ms</td>"
        "<td class=\"number\"></td>",
        "<td class=\"number\"></td><td class=\"number\"></td><td class=\"number\"></td>",
        "<h3>Seconds of a step</h3>", "communication that is not hidden, epoch 1: 0.02"})
    CHECK_MESSAGE(contains(page, part), part);
  CHECK(!contains(page, ">nan"));
  // Parts of a step begin at 0, so that their lengths compare.
  r.rows[1]["comm_seconds"] = 0.08, r.rows[1]["comm_exposed_seconds"] = 0.02;
  const std::string steady = report::report_html(r);
  CHECK(contains(steady.substr(steady.find("<h3>Seconds of a step</h3>")),
                 "text-anchor=\"end\">0</text>"));
}
