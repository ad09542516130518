#include <bit>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

constexpr std::uint64_t kBitsPerWord = 64;

// Checked before anything is unmapped: afterwards a refusal would lose what is dirty (LOG-EXACT).
Result<Bitmap> wanted_bitmap(Session& session, const Request& request, const DmaUnmap& unmap) {
  const std::optional<Bitmap> bitmap = load_at<Bitmap>(request.body, sizeof unmap);
  if (!bitmap) return fail(EINVAL, "DMA_UNMAP: asks for a dirty bitmap without saying which", "WIR-FRAME");
  if (!session.endpoint.log().started()) {
    return fail(EINVAL, "DMA_UNMAP: asks for a dirty bitmap while DMA logging is not started", "LOG-REPORT");
  }
  if (bitmap->page_size < DmaLog::kMinPageSize || !std::has_single_bit(bitmap->page_size)) {
    return fail(EINVAL, fmt::format("DMA_UNMAP: dirty bitmap with a page size of {}", bitmap->page_size), "LOG-REPORT");
  }
  const std::uint64_t pages = unmap.size / bitmap->page_size + (unmap.size % bitmap->page_size != 0 ? 1 : 0);
  const std::uint64_t needed = (pages + kBitsPerWord - 1) / kBitsPerWord * sizeof(std::uint64_t);
  if (bitmap->size < needed || bitmap->size > kMaxDirtyBitmap || bitmap->size % sizeof(std::uint64_t) != 0) {
    return fail(EINVAL, fmt::format("DMA_UNMAP: a dirty bitmap of {} bytes, {} are needed", bitmap->size, needed),
                "LOG-REPORT");
  }
  if (Result<void> fits = check_argsz("DMA_UNMAP", unmap.argsz, sizeof unmap + sizeof *bitmap + bitmap->size); !fits) {
    return std::unexpected(fits.error());
  }
  return *bitmap;
}

// A log of ranges knows none that ends at 2^64 (LOG-START) and is asked for none: nothing is logged in the last page.
Result<DirtyReport> report_of(DmaLog& log, const IovaRange& range, const Bitmap& bitmap) {
  Result<DirtyReport> report = log.report(range, bitmap.page_size, bitmap.size);
  if (report || report.error().code != EOVERFLOW) return report;
  if (range.size <= DmaLog::kMinPageSize) return DirtyReport{};
  return log.report({range.start, range.size - DmaLog::kMinPageSize}, bitmap.page_size, bitmap.size);
}

Result<void> unmap_with_bitmap(Session& session, const Request& request, const DmaUnmap& unmap, Answer& answer) {
  const Result<Bitmap> bitmap = wanted_bitmap(session, request, unmap);
  if (!bitmap) return std::unexpected(bitmap.error());
  const IovaRange range{{unmap.address}, unmap.size};
  // First the mapping goes, and with it the last write: what is pinned is marked when it is released.
  if (Result<void> unmapped = session.endpoint.dma().unmap(range); !unmapped) return unmapped;
  Result<DirtyReport> report = report_of(session.endpoint.log(), range, *bitmap);
  if (!report) return std::unexpected(report.error());
  answer.put(unmap);
  answer.put(*bitmap);
  answer.put_bitmap(*std::move(report), bitmap->size);
  return {};
}

Result<void> unmap_everything(Session& session, const DmaUnmap& unmap, Answer& answer) {
  if (unmap.address != 0 || unmap.size != 0) {
    return fail(EINVAL, "DMA_UNMAP: all mappings are unmapped with address 0 and size 0");
  }
  session.endpoint.dma().unmap_all();
  answer.put(unmap);
  return {};
}

}  // namespace

Result<void> handle_dma_map(Session& session, const Request& request, Answer&) {
  const auto map = fixed_part<DmaMap>(request);
  if (Result<void> fits = check_argsz("DMA_MAP", map.argsz, sizeof map); !fits) return fits;
  if ((map.flags & ~(kDmaMapRead | kDmaMapWrite)) != 0) {
    return fail(EINVAL, fmt::format("DMA_MAP: unknown flags {:#x}", map.flags), "WIR-FRAME");
  }
  if (request.fds.size() > 1) {
    return fail(EINVAL, fmt::format("DMA_MAP: {} descriptors, at most one is meant", request.fds.size()), "WIR-FDS");
  }
  return session.endpoint.dma().map(
      {.range = {{map.address}, map.size},
       .permissions = {.read = (map.flags & kDmaMapRead) != 0, .write = (map.flags & kDmaMapWrite) != 0},
       .file = request.fds.empty() ? Fd() : std::move(request.fds.front()),
       .offset = map.offset});
}

Result<void> handle_dma_unmap(Session& session, const Request& request, Answer& answer) {
  const auto unmap = fixed_part<DmaUnmap>(request);
  if (Result<void> fits = check_argsz("DMA_UNMAP", unmap.argsz, sizeof unmap); !fits) return fits;
  switch (unmap.flags) {
    case kUnmapGetDirtyBitmap:
      return unmap_with_bitmap(session, request, unmap, answer);
    case kUnmapAll:
      return unmap_everything(session, unmap, answer);
    case 0:
      break;
    default:
      return fail(EINVAL, fmt::format("DMA_UNMAP: flags {:#x} are unknown or exclude each other", unmap.flags));
  }
  if (Result<void> done = session.endpoint.dma().unmap({{unmap.address}, unmap.size}); !done) return done;
  answer.put(unmap);
  return {};
}

}  // namespace gangway::vfio_user
