#include "data/coco/coco_json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/text.h"
#include "io/file.h"

namespace sg::data {
namespace {

using List = CocoRecord::List;

enum class Field {
  id,
  image_id,
  category_id,
  width,
  height,
  name,
  bbox,
  area,
  iscrowd,
  ignore,
  score,
  segmentation
};

struct FieldInfo {
  std::string_view name;
  Field field;
  bool required = true;
};
constexpr FieldInfo kImage[] = {{"id", Field::id},
                                {"file_name", Field::name},
                                {"width", Field::width},
                                {"height", Field::height}};
constexpr FieldInfo kCategory[] = {{"id", Field::id}, {"name", Field::name}};
constexpr FieldInfo kAnnotation[] = {{"id", Field::id},
                                     {"image_id", Field::image_id},
                                     {"category_id", Field::category_id},
                                     {"bbox", Field::bbox},
                                     {"area", Field::area},
                                     {"iscrowd", Field::iscrowd, false},
                                     {"ignore", Field::ignore, false},
                                     {"segmentation", Field::segmentation, false}};
constexpr FieldInfo kResult[] = {{"image_id", Field::image_id},
                                 {"category_id", Field::category_id},
                                 {"score", Field::score},
                                 {"bbox", Field::bbox, false},
                                 {"segmentation", Field::segmentation, false}};

struct ListInfo {
  std::string_view name;
  std::span<const FieldInfo> fields;
};
const ListInfo& info_of(List list) {
  static constexpr ListInfo kLists[] = {{"images", kImage},
                                        {"categories", kCategory},
                                        {"annotations", kAnnotation},
                                        {"results", kResult}};
  return kLists[size_t(list)];
}

// The bytes of a file, a block at a time.
class FileBytes {
 public:
  explicit FileBytes(const std::filesystem::path& path) : file_(path, ExitCode::data) {}

  // As the JSON parser wants it: one pass.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    explicit Iterator(FileBytes* bytes) : bytes_(bytes) {}
    reference operator*() const { return *bytes_->at_; }
    Iterator& operator++() {
      ++bytes_->at_;
      return *this;
    }
    bool operator==(const Iterator&) const { return bytes_->at_end(); }
    bool operator!=(const Iterator&) const { return !bytes_->at_end(); }

   private:
    FileBytes* bytes_;
  };
  // Both stand where the reading is.
  Iterator begin() { return Iterator(this); }
  Iterator end() { return Iterator(this); }

 private:
  bool at_end() { return at_ == end_ && !fill(); }
  bool fill() {
    block_.resize(std::min<uint64_t>(kBlock, file_.size() - read_));
    file_.read(read_, block_.data(), block_.size());
    // The parser would take one for the end.
    if (block_.find('\0') != block_.npos)
      fail(ExitCode::data, "{}: JSON holds a zero byte", escape_name(file_.path().string()));
    read_ += block_.size();
    at_ = block_.data(), end_ = at_ + block_.size();
    return !block_.empty();
  }

  static constexpr uint64_t kBlock = 1 << 20;
  InputFile file_;
  uint64_t read_ = 0;
  std::string block_;
  const char *at_ = nullptr, *end_ = nullptr;
};

// Events of the parser become records. Of what is open, `depth_` counts objects and lists: 0 none,
// then the file's object (annotations alone), a list of records, a record, and what is in a field.
class RecordReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  RecordReader(std::string file, CocoFile kind, const std::function<void(CocoRecord&)>& f)
      : file_(std::move(file)), f_(f), list_depth_(kind == CocoFile::results ? 1 : 2) {
    if (kind == CocoFile::results) list_ = List::results;
  }

  bool null() override { return value("null"); }
  bool boolean(bool v) override {
    if (!in_field()) return value("true or false");
    if (*field_ != Field::iscrowd && *field_ != Field::ignore) wrong("true or false");
    number(v ? 1 : 0);
    return true;
  }
  bool number_integer(int64_t v) override { return on_number(double(v), v); }
  bool number_unsigned(uint64_t v) override {
    return on_number(double(v),
                     v <= uint64_t{INT64_MAX} ? std::optional(int64_t(v)) : std::nullopt);
  }
  bool number_float(double v, const std::string&) override {
    const bool whole = v == std::floor(v) && std::abs(v) < 0x1p53;
    return on_number(v, whole ? std::optional(int64_t(v)) : std::nullopt);
  }
  bool string(std::string& text) override {
    if (!in_field()) return value("a string");
    if (*field_ == Field::name)
      record_.name = std::move(text);
    else if (*field_ == Field::segmentation && rle_part_ == RlePart::counts &&
             depth_ == list_depth_ + 2)
      rle_text_ = std::move(text);
    else
      wrong("a string");
    return true;
  }
  bool binary(binary_t&) override { return value("binary data"); }

  bool start_object(size_t) override {
    open();
    if (skipped_ > 0) return true;
    if (depth_ == 1 && list_depth_ == 2) return true;
    if (list_ && depth_ == list_depth_ + 1) {
      begin_record();
    } else if (in_field() && *field_ == Field::segmentation && depth_ == list_depth_ + 2) {
      is_rle_ = true;
    } else {
      misplaced("an object");
    }
    return true;
  }
  bool end_object() override {
    if (!close()) return true;
    if (depth_ == list_depth_) {
      finish_record();
    } else if (depth_ == list_depth_ + 1) {
      end_field();
    } else {
      require_lists();
    }
    return true;
  }
  bool start_array(size_t) override {
    open();
    if (skipped_ > 0) return true;
    if (list_ && depth_ == list_depth_) {
      record_.index = -1;
      return true;
    }
    if (!in_field() || !takes_list()) misplaced("a list");
    return true;
  }
  bool end_array() override {
    if (!close()) return true;
    if (depth_ == list_depth_ - 1) {
      seen_ |= 1u << unsigned(*list_);
      if (list_depth_ == 2) list_.reset();
    } else if (depth_ == list_depth_ + 1) {
      end_field();
    } else if (!is_rle_) {
      ends_.push_back(numbers_.size());
    }
    return true;
  }
  bool key(std::string& name) override {
    if (skipped_ > 0) return true;
    if (depth_ == 1 && list_depth_ == 2) {
      for (const List list : {List::images, List::categories, List::annotations})
        if (name == info_of(list).name) {
          if (seen_ & 1u << unsigned(list))
            fail(ExitCode::data, "{}: '{}' occurs twice", file_, name);
          list_ = list;
          return true;
        }
      skip_value();
    } else if (depth_ == list_depth_ + 1) {
      begin_field(name);
    } else {  // of an RLE
      rle_part_ = name == "size"     ? RlePart::size
                  : name == "counts" ? RlePart::counts
                                     : RlePart::none;
      if (rle_part_ == RlePart::none) skip_value();
    }
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override {
    constexpr size_t kLongest = 300;
    fail(ExitCode::data, "{}: not valid JSON: {}", file_,
         std::string(e.what()).substr(0, kLongest));
  }

 private:
  enum class RlePart { none, size, counts };
  static constexpr int kMaxDepth = 64;

  // Passing over a value: `skipped_` is the depth at which it ends, and `skip_next_` says that it
  // has not begun.
  void skip_value() { skip_next_ = true; }
  void open() {
    if (++depth_ > kMaxDepth)
      fail(ExitCode::data, "{}: JSON nests more than {} levels", file_, kMaxDepth);
    if (skip_next_) skip_next_ = false, skipped_ = depth_;
  }
  // Whether what ends was not passed over.
  bool close() {
    const bool mine = skipped_ == 0;
    if (skipped_ == depth_) skipped_ = 0;
    --depth_;
    return mine;
  }
  bool in_field() const { return skipped_ == 0 && !skip_next_ && field_.has_value(); }

  // A value that no field takes; that of an unknown field is passed over.
  bool value(std::string_view what) {
    if (skip_next_)
      skip_next_ = false;
    else if (skipped_ == 0)
      misplaced(what);
    return true;
  }
  bool on_number(double v, std::optional<int64_t> whole) {
    if (!in_field()) return value("a number");
    if (const auto place = whole_number(*field_)) {
      if (!whole) wrong(fmt::format("{}", v));
      *place = *whole;
    } else {
      number(v);
    }
    return true;
  }

  int64_t* whole_number_place(Field f) {
    switch (f) {
      case Field::id:
        return &record_.id;
      case Field::image_id:
        return &record_.image_id;
      case Field::category_id:
        return &record_.category_id;
      case Field::width:
        return &record_.width;
      case Field::height:
        return &record_.height;
      default:
        return nullptr;
    }
  }
  int64_t* whole_number(Field f) {
    int64_t* place = whole_number_place(f);
    return place && depth_ == list_depth_ + 1 ? place : nullptr;
  }

  void number(double v) {
    switch (*field_) {
      case Field::area:
        record_.area = v;
        return;
      case Field::score:
        record_.score = v;
        return;
      case Field::iscrowd:
        record_.crowd = v != 0;
        return;
      case Field::ignore:
        record_.ignore = v != 0;
        return;
      case Field::bbox:
        if (depth_ == list_depth_ + 1) wrong("a number");
        numbers_.push_back(v);
        return;
      case Field::segmentation:
        break;
      default:
        wrong("a number");
    }
    // In a list of a polygon, or in one of an RLE.
    if (depth_ != list_depth_ + 3) wrong("a number");
    if (!is_rle_)
      numbers_.push_back(v);
    else if (v != std::floor(v) || v < 0 || v > double(INT32_MAX))
      wrong(fmt::format("{} in the RLE", v));
    else
      (rle_part_ == RlePart::size ? rle_size_ : rle_counts_).push_back(uint32_t(v));
  }

  bool takes_list() const {
    const int inside = depth_ - list_depth_;
    if (*field_ == Field::bbox) return inside == 2;
    if (*field_ != Field::segmentation) return false;
    return inside == 2 || inside == 3;
  }

  void begin_record() {
    const int64_t index = record_.index + 1;
    record_ = {};
    record_.list = *list_, record_.index = index;
    fields_ = 0;
  }
  void finish_record() {
    for (const FieldInfo& info : info_of(*list_).fields)
      if (info.required && !(fields_ & 1u << unsigned(info.field)))
        fail(ExitCode::data, "{}: {}: the field '{}' is missing", file_, record_.str(), info.name);
    field_.reset();
    f_(record_);
  }
  void begin_field(const std::string& name) {
    const auto fields = info_of(*list_).fields;
    const auto found = std::ranges::find(fields, name, &FieldInfo::name);
    if (found == fields.end()) return skip_value();
    field_ = found->field, field_name_ = found->name;
    const uint32_t bit = 1u << unsigned(*field_);
    if (fields_ & bit)
      fail(ExitCode::data, "{}: {}: '{}' occurs twice", file_, record_.str(), name);
    fields_ |= bit;
    numbers_.clear(), ends_.clear();
    is_rle_ = false, rle_part_ = RlePart::none;
    rle_size_.clear(), rle_counts_.clear(), rle_text_.reset();
  }
  // A field of lists or of an object has ended.
  void end_field() {
    if (*field_ == Field::bbox) {
      if (numbers_.size() != 4) wrong(fmt::format("a list of {}", numbers_.size()));
      record_.box = {numbers_[0], numbers_[1], numbers_[2], numbers_[3]};
      record_.has_box = true;
    } else if (is_rle_) {
      if (rle_size_.size() != 2) wrong("an RLE without a size of 2 numbers");
      const auto height = int(rle_size_[0]), width = int(rle_size_[1]);
      in_context([&] {
        RleMask mask{height, width, std::move(rle_counts_)};
        if (rle_text_)
          mask = rle_from_string(*rle_text_, height, width);
        else
          check_rle(mask);
        record_.segmentation = CocoSegmentation(std::move(mask));
      });
    } else {
      in_context([&] { record_.segmentation = CocoSegmentation(numbers_, ends_); });
    }
  }

  void require_lists() {
    for (const List list : {List::images, List::categories, List::annotations})
      if (!(seen_ & 1u << unsigned(list)))
        fail(ExitCode::data,
             "{}: the list '{}' is missing; expected an annotation file of COCO with images, "
             "categories and annotations",
             file_, info_of(list).name);
  }

  template <class F>
  void in_context(const F& f) try {
    f();
  } catch (const Error& e) {
    fail(ExitCode::data, "{}: {}: {}: {}", file_, record_.str(), field_name_, e.what());
  }

  static std::string_view expected_of(Field f) {
    switch (f) {
      case Field::name:
        return "a string";
      case Field::bbox:
        return "a list of 4 numbers: x, y, width, height";
      case Field::area:
      case Field::score:
        return "a number";
      case Field::iscrowd:
      case Field::ignore:
        return "0 or 1";
      case Field::segmentation:
        return "a list of polygons [x0, y0, x1, y1, ...], or an RLE {size: [height, width], "
               "counts}";
      default:
        return "a whole number";
    }
  }
  // Of the value of a field that is another than it should be.
  [[noreturn]] void wrong(std::string_view found) const {
    fail(ExitCode::data, "{}: {}: {}: expected {}, found {}", file_, record_.str(), field_name_,
         expected_of(*field_), found);
  }
  [[noreturn]] void misplaced(std::string_view found) const {
    if (in_field() && depth_ > list_depth_) wrong(found);
    if (list_)
      fail(ExitCode::data, "{}: {}: expected a list of objects, found {}", file_,
           info_of(*list_).name, found);
    fail(ExitCode::data, "{}: expected {}, found {}", file_,
         list_depth_ == 1 ? "a list of results"
                          : "an object with images, categories and annotations",
         found);
  }

  std::string file_;
  const std::function<void(CocoRecord&)>& f_;
  int list_depth_;  // of a list of records
  int depth_ = 0, skipped_ = 0;
  bool skip_next_ = false;
  std::optional<List> list_;
  uint32_t seen_ = 0;  // lists
  CocoRecord record_;
  uint32_t fields_ = 0;  // of the record
  std::optional<Field> field_;
  std::string_view field_name_;
  std::vector<double> numbers_;  // of a box, or of all polygons
  std::vector<size_t> ends_;
  bool is_rle_ = false;
  RlePart rle_part_ = RlePart::none;
  std::vector<uint32_t> rle_size_, rle_counts_;
  std::optional<std::string> rle_text_;
};

}  // namespace

std::string CocoRecord::str() const {
  std::string text = fmt::format("{}[{}]", info_of(list).name, index);
  if (list == List::results) return text + fmt::format(" (image_id {})", image_id);
  return id != 0 ? text + fmt::format(" (id {})", id) : text;
}

void read_coco_json(const std::filesystem::path& path, CocoFile kind,
                    const std::function<void(CocoRecord&)>& f) {
  FileBytes bytes(path);
  RecordReader reader(escape_name(path.string()), kind, f);
  nlohmann::json::sax_parse(bytes.begin(), bytes.end(), &reader);
}

}  // namespace sg::data
