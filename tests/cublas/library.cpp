#include "tests/cublas/library.h"

#include <cublasLt.h>

#include <cstring>
#include <map>
#include <vector>

#include "core/dtype.h"

using sg::bf16;

namespace sg::test {
CublasLt& cublaslt() {
  static CublasLt state;
  return state;
}
}  // namespace sg::test

namespace {

using sg::test::cublaslt;

constexpr size_t kNeeded = 4096;  // bytes of workspace

cublasStatus_t told(const char* call, bool fused) {
  const auto& state = cublaslt();
  for (const auto* failing : {&state.failing, fused ? &state.failing_fused : &state.failing})
    if (const auto it = failing->find(call); it != failing->end()) return it->second;
  return CUBLAS_STATUS_SUCCESS;
}
// At the head of each function that may be told to fail.
#define ENTER(call, fused)                                                              \
  if (const cublasStatus_t status = told(call, fused); status != CUBLAS_STATUS_SUCCESS) \
  return status

struct Layout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t stride;

  double get(const void* data, uint64_t r, uint64_t c) const {
    const size_t i = size_t(c) * size_t(stride) + r;
    return type == CUDA_R_32F ? double(static_cast<const float*>(data)[i])
                              : double(float(static_cast<const bf16*>(data)[i]));
  }
  void put(void* data, uint64_t r, uint64_t c, double v) const {
    const size_t i = size_t(c) * size_t(stride) + r;
    if (type == CUDA_R_32F)
      static_cast<float*>(data)[i] = float(v);
    else
      static_cast<bf16*>(data)[i] = bf16(float(v));
  }
};

using Attributes = std::map<int, std::vector<unsigned char>>;

template <class T>
T get(const Attributes& all, int name, T otherwise) {
  const auto it = all.find(name);
  if (it == all.end()) return otherwise;
  T v;
  std::memcpy(&v, it->second.data(), sizeof v);
  return v;
}

// As the library checks them: an attribute has one size.
cublasStatus_t put(void* all, int name, const void* value, size_t given, size_t right) {
  if (given != right) return CUBLAS_STATUS_INVALID_VALUE;
  const auto* bytes = static_cast<const unsigned char*>(value);
  (*static_cast<Attributes*>(all))[name].assign(bytes, bytes + given);
  return CUBLAS_STATUS_SUCCESS;
}

const Attributes& attributes(const void* p) { return *static_cast<const Attributes*>(p); }
const Layout& layout(cublasLtMatrixLayout_t l) { return *reinterpret_cast<const Layout*>(l); }

struct Side {  // an operand with its transposition
  const Layout& of;
  bool transposed;
  uint64_t rows() const { return transposed ? of.columns : of.rows; }
  uint64_t columns() const { return transposed ? of.rows : of.columns; }
  double get(const void* data, uint64_t r, uint64_t c) const {
    return transposed ? of.get(data, c, r) : of.get(data, r, c);
  }
};
Side side(cublasLtMatrixLayout_t l, const Attributes& operation, int transposition) {
  return {layout(l), get(operation, transposition, CUBLAS_OP_N) == CUBLAS_OP_T};
}

cublasLtEpilogue_t epilogue_of(const Attributes& operation) {
  return get(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int any;
  *handle = reinterpret_cast<cublasLtHandle_t>(&any);
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an invalid value" : "another failure";
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t sums,
                                        cudaDataType_t scale) {
  *operation = reinterpret_cast<cublasLtMatmulDesc_t>(new Attributes);
  return sums == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                           : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void* value, size_t bytes) {
  ENTER("cublasLtMatmulDescSetAttribute", name == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
  return put(operation, name, value, bytes, name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? 8 : 4);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* to, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  *to = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, stride});
  return uint64_t(stride) >= rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Attributes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void* value, size_t bytes) {
  return put(preference, name, value, bytes,
             name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Attributes*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* found, int* count) {
  const Attributes& wishes = attributes(preference);
  auto& state = cublaslt();
  ++state.searches;
  state.workspace = get(wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  state.reductions = get(wishes, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{7});
  state.alignment_a = get(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{256});
  state.alignment_b = get(wishes, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{256});
  *count = 0;
  const cublasLtEpilogue_t epilogue = epilogue_of(attributes(operation));
  ENTER("cublasLtMatmulAlgoGetHeuristic", epilogue != CUBLASLT_EPILOGUE_DEFAULT);
  const auto& algorithms =
      epilogue == CUBLASLT_EPILOGUE_BGRADB ? state.bias_grad_algorithms : state.algorithms;
  for (const sg::test::Algorithm& a : algorithms) {
    if (*count == most) break;
    cublasLtMatmulHeuristicResult_t& to = found[*count];
    to.state = a.works ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    to.algo.data[0] = uint64_t(*count), to.algo.data[1] = uint64_t(a.splits);
    to.algo.data[2] = a.works;
    to.workspaceSize = kNeeded, to.wavesCount = a.waves;
    ++*count;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void* value, size_t bytes, size_t* written) {
  if (name != CUBLASLT_ALGO_CONFIG_SPLITK_NUM || bytes != sizeof(int32_t))
    return CUBLAS_STATUS_INVALID_VALUE;
  *static_cast<int32_t*>(value) = int32_t(algo->data[1]), *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t) {
  const Attributes& all = attributes(operation);
  const Side left = side(a_layout, all, CUBLASLT_MATMUL_DESC_TRANSA);
  const Side right = side(b_layout, all, CUBLASLT_MATMUL_DESC_TRANSB);
  const Layout &from = layout(c_layout), &to = layout(d_layout);
  const cublasLtEpilogue_t epilogue = epilogue_of(all);
  ENTER("cublasLtMatmul", epilogue != CUBLASLT_EPILOGUE_DEFAULT);
  if (!algo->data[2] || workspace_bytes < kNeeded || left.columns() != right.rows() ||
      left.rows() != to.rows || right.columns() != to.columns)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(workspace, 0xff, workspace_bytes);
  const double scale = double(*static_cast<const float*>(alpha));
  const double before = double(*static_cast<const float*>(beta));
  void* const bias = get<void*>(all, CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
  const Layout of_bias{to.type, to.rows, 1, int64_t(to.rows)};
  for (uint64_t j = 0; j < to.columns; ++j) {
    for (uint64_t i = 0; i < to.rows; ++i) {
      double sum = before == 0 ? 0 : before * from.get(c, i, j);
      for (uint64_t s = 0; s < left.columns(); ++s)
        sum += scale * left.get(a, i, s) * right.get(b, s, j);
      if (epilogue == CUBLASLT_EPILOGUE_BIAS) sum += of_bias.get(bias, i, 0);
      to.put(d, i, j, sum);
    }
    if (epilogue != CUBLASLT_EPILOGUE_BGRADB) continue;
    double sum = 0;
    for (uint64_t s = 0; s < right.rows(); ++s) sum += right.get(b, s, j);
    static_cast<float*>(bias)[j] = float(sum);
  }
  ++cublaslt().matmuls;
  cublaslt().taken = size_t(algo->data[0]);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
