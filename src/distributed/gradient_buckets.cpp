#include "distributed/gradient_buckets.h"

#include "base/error.h"

namespace ssa {

namespace {

/// Where the gradient of `parameter`, number `number`, begins in the buffer: at or behind `least`.
int64_t offset_in(const Tensor& buffer, const Tensor& parameter, size_t number, int64_t least) {
  const Tensor& gradient = parameter.grad();
  const auto is_view = [&] {
    return gradient.defined() && gradient.is_contiguous() && gradient.numel() > 0 &&
           gradient.dtype() == buffer.dtype() && gradient.is_alias_of(buffer);
  };
  check(is_view(), "gradient ", number, " is not a contiguous view into its flat buffer");
  const int64_t offset = gradient.storage_offset() - buffer.storage_offset();
  check(offset >= least && offset + gradient.numel() <= buffer.numel(),
        "gradient ",
        number,
        " lies at element ",
        offset,
        " of its flat buffer; expected ",
        least,
        " or behind");
  return offset;
}

void cut_buffer(const FlatGradients& flat, int64_t bucket_bytes, std::vector<GradientBucket>& out) {
  check(flat.buffer.dim() == 1 && flat.buffer.is_contiguous(),
        "a buffer of gradients is not flat and contiguous");
  const int64_t full = bucket_bytes / flat.buffer.element_size();
  int64_t begin = 0;  // of the bucket at hand
  int64_t end = 0;    // of the last gradient
  std::vector<Tensor> parameters;
  for (const Tensor& parameter : flat.parameters) {
    const int64_t offset =
        offset_in(flat.buffer, parameter, &parameter - flat.parameters.data(), end);
    if (!parameters.empty() && end - begin >= full) {
      out.push_back({flat.buffer.slice(0, begin, offset), std::move(parameters)});
      parameters.clear();
      begin = offset;
    }
    parameters.push_back(parameter);
    end = offset + parameter.numel();
  }
  if (begin < flat.buffer.numel()) {
    out.push_back({flat.buffer.slice(0, begin), std::move(parameters)});
  }
}

}  // namespace

std::vector<GradientBucket> cut_into_buckets(const std::vector<FlatGradients>& gradients,
                                             int64_t bucket_bytes) {
  check(bucket_bytes > 0, "bucket_bytes=", bucket_bytes, "; expected more than 0");
  std::vector<GradientBucket> out;
  for (const FlatGradients& flat : gradients) {
    cut_buffer(flat, bucket_bytes, out);
  }
  return out;
}

}  // namespace ssa
