// COCO's JSON files, read in one pass and with memory for one record.
#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "data/coco/coco_box.h"
#include "data/coco/segmentation.h"

namespace sg::data {

// An entry of one of the lists of an annotation file, or of a file of results, which is one list.
struct CocoRecord {
  enum class List { images, categories, annotations, results };
  List list = List::images;
  int64_t index = 0;  // in its list
  // What the lists have; fields that are not required are 0 or empty where they are missing.
  int64_t id = 0;                         // of all but results
  std::string name;                       // categories: name; images: file_name
  int64_t width = 0, height = 0;          // images
  int64_t image_id = 0, category_id = 0;  // annotations, results
  CocoBox box;                            // annotations; results have it or a segmentation
  bool has_box = false;
  double area = 0;                // annotations
  bool crowd = false;             // annotations, where they have iscrowd
  bool ignore = false;            // annotations, where they have it
  double score = 0;               // results
  CocoSegmentation segmentation;  // empty where there is none

  // "annotations[3] (id 17)", "results[2] (image_id 5)"
  std::string str() const;
};

enum class CocoFile { annotations, results };
// f(record) of each record, in the order of the file; it may move from the record. Fields and lists
// that are not named above are passed over. Throws ExitCode::data naming file, record and field
// where the file is no JSON, or where a field is missing, doubled or of another type.
void read_coco_json(const std::filesystem::path& path, CocoFile kind,
                    const std::function<void(CocoRecord&)>& f);

}  // namespace sg::data
