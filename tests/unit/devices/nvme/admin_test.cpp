#include <gtest/gtest.h>

#include "devices/nvme/features.h"
#include "devices/nvme/identify.h"
#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

class NvmeAdmin : public testing::Test {
 protected:
  NvmeAdmin() {
    EXPECT_EQ(rig_.driver.enable(), kCstsReady);
    data_ = rig_.ram.allocate(8192);
  }
  Completion with_data(Command command) {
    command.prp1 = data_.value;
    command.prp2 = data_.value + 4096;
    return rig_.driver.admin(command);
  }
  Status identify(std::uint8_t cns, std::uint32_t nsid) {
    Command command = admin_command(AdminOpcode::Identify, cns);
    command.nsid = nsid;
    rig_.ram.fill(data_, 4096, std::byte{0xee});
    return status_of(with_data(command));
  }
  Completion get_feature(FeatureId id, std::uint32_t select = 0, std::uint32_t cdw11 = 0, std::uint32_t nsid = 0) {
    Command command = admin_command(AdminOpcode::GetFeatures, select << 8 | static_cast<std::uint32_t>(id), cdw11);
    command.nsid = nsid;
    return rig_.driver.admin(command);
  }
  Completion set_feature(FeatureId id, std::uint32_t cdw11, std::uint32_t nsid = 0, bool save = false) {
    Command command =
        admin_command(AdminOpcode::SetFeatures, (save ? 1U << 31 : 0) | static_cast<std::uint32_t>(id), cdw11);
    command.nsid = nsid;
    return rig_.driver.admin(command);
  }
  Completion get_log(std::uint8_t page, std::uint32_t bytes, std::uint64_t offset = 0,
                     std::uint32_t nsid = 0xffff'ffff) {
    Command command = admin_command(AdminOpcode::GetLogPage, (bytes / 4 - 1) << 16 | page, (bytes / 4 - 1) >> 16);
    command.cdw12 = static_cast<std::uint32_t>(offset);
    command.cdw13 = static_cast<std::uint32_t>(offset >> 32);
    command.nsid = nsid;
    return with_data(command);
  }

  TemporaryImage second_{4U << 20};
  Rig rig_{ControllerOptions{.serial = "SN-1",
                             .model = "Model A",
                             .namespaces = {{}, {.path = second_.path(), .block_size = 4096, .read_only = true}}}};
  Iova data_;
};

TEST_F(NvmeAdmin, identify_controller_tells_who_it_is) {
  ASSERT_EQ(identify(1, 0), Status::Success);
  const auto id = rig_.ram.get<IdentifyController>(data_);
  EXPECT_EQ(std::string(id.sn.data(), 20), "SN-1                ");
  EXPECT_EQ(std::string(id.mn.data(), 40).substr(0, 9), "Model A  ");
  EXPECT_EQ(id.ver, 0x10400U);
  EXPECT_EQ(id.nn, 2U);
  EXPECT_EQ(id.mdts, 7);
  EXPECT_EQ(id.sqes, 0x66);
  EXPECT_EQ(id.cqes, 0x44);
  EXPECT_EQ(id.vwc & 1, 1);
  EXPECT_EQ(std::string(id.subnqn.data()).rfind("nqn.", 0), 0U);
}

TEST_F(NvmeAdmin, identify_namespace_gives_size_and_format) {
  ASSERT_EQ(identify(0, 1), Status::Success);
  auto id = rig_.ram.get<IdentifyNamespace>(data_);
  EXPECT_EQ(id.nsze, (8U << 20) / 512);
  EXPECT_EQ(id.lbaf[0].data_size_shift, 9);
  EXPECT_EQ(id.nsattr, 0);
  ASSERT_EQ(identify(0, 2), Status::Success);
  id = rig_.ram.get<IdentifyNamespace>(data_);
  EXPECT_EQ(id.nsze, (4U << 20) / 4096);
  EXPECT_EQ(id.lbaf[0].data_size_shift, 12);
  EXPECT_EQ(id.nsattr, 1) << "read-only";
}

TEST_F(NvmeAdmin, the_active_list_starts_above_the_given_number) {
  ASSERT_EQ(identify(2, 0), Status::Success);
  EXPECT_EQ((rig_.ram.get<std::array<std::uint32_t, 4>>(data_)), (std::array<std::uint32_t, 4>{1, 2, 0, 0}));
  ASSERT_EQ(identify(2, 1), Status::Success);
  EXPECT_EQ((rig_.ram.get<std::array<std::uint32_t, 2>>(data_)), (std::array<std::uint32_t, 2>{2, 0}));
  EXPECT_EQ(identify(2, 0xffff'fffe), Status::InvalidNamespace);
  EXPECT_EQ(identify(2, 0xffff'ffff), Status::InvalidNamespace);
}

TEST_F(NvmeAdmin, descriptors_name_each_namespace_by_a_uuid) {
  ASSERT_EQ(identify(3, 1), Status::Success);
  const auto one = rig_.ram.get<std::array<std::uint8_t, 24>>(data_);
  EXPECT_EQ(one[0], 3);
  EXPECT_EQ(one[1], 16);
  EXPECT_EQ(one[20], 0) << "the list ends";
  ASSERT_EQ(identify(3, 2), Status::Success);
  EXPECT_NE((rig_.ram.get<std::array<std::uint8_t, 24>>(data_)), one);
}

TEST_F(NvmeAdmin, identify_refuses_what_is_not_there) {
  for (const std::uint32_t nsid : {0U, 3U, 0xffff'ffffU}) {
    EXPECT_EQ(identify(0, nsid), Status::InvalidNamespace) << nsid;
    EXPECT_EQ(identify(3, nsid), Status::InvalidNamespace) << nsid;
  }
  EXPECT_EQ(identify(4, 1), Status::InvalidField);
  EXPECT_EQ(identify(0x1c, 1), Status::InvalidField);
}

TEST_F(NvmeAdmin, data_pointers_are_checked) {
  Command command = admin_command(AdminOpcode::Identify, 1);
  command.prp1 = data_.value + 2;
  EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::InvalidPrpOffset);
  command.prp1 = 0x1000;
  EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::DataTransferError);
  command.prp1 = data_.value + 0x800;
  command.prp2 = 0xffff'ffff'ffff'f000;
  EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::DataTransferError);
  command.flags = 0x40;
  EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::InvalidField) << "an SGL";
  command.flags = 0x01;
  EXPECT_EQ(status_of(rig_.driver.admin(command)), Status::InvalidField) << "a fused operation";
}

TEST_F(NvmeAdmin, commands_that_are_not_offered_are_invalid_opcodes) {
  for (const int opcode : {0x03, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x18, 0x80, 0x81, 0x82, 0x84, 0xff}) {
    const Completion completion = rig_.driver.admin({.opcode = static_cast<std::uint8_t>(opcode)});
    EXPECT_EQ(status_of(completion), Status::InvalidOpcode) << opcode;
    EXPECT_TRUE((completion.status >> 15 & 1) != 0) << "do not retry";
  }
}

TEST_F(NvmeAdmin, the_number_of_queues_is_granted_up_to_what_there_is) {
  EXPECT_EQ(set_feature(FeatureId::NumberOfQueues, 3U << 16 | 2U).result, 3U << 16 | 2U);
  EXPECT_EQ(set_feature(FeatureId::NumberOfQueues, 99U << 16 | 99U).result, 15U << 16 | 15U);
  EXPECT_EQ(get_feature(FeatureId::NumberOfQueues).result, 15U << 16 | 15U);
  EXPECT_EQ(status_of(set_feature(FeatureId::NumberOfQueues, 0xffff)), Status::InvalidField);
  EXPECT_EQ(status_of(set_feature(FeatureId::NumberOfQueues, 0xffff'0000)), Status::InvalidField);
  ASSERT_EQ(rig_.driver.create_pair(1), Status::Success);
  EXPECT_EQ(status_of(set_feature(FeatureId::NumberOfQueues, 0)), Status::CommandSequenceError);
}

TEST_F(NvmeAdmin, features_are_set_and_read_back) {
  struct Case {
    FeatureId id;
    std::uint32_t cdw11;
    std::uint32_t expected;
  };
  for (const Case& one :
       {Case{FeatureId::Arbitration, 0x0102'0303, 0x0102'0303}, Case{FeatureId::VolatileWriteCache, 0, 0},
        Case{FeatureId::InterruptCoalescing, 0x1f10, 0x1f10}, Case{FeatureId::WriteAtomicity, 1, 1},
        Case{FeatureId::AsyncEventConfig, 0x1f, 0x1f}, Case{FeatureId::PowerManagement, 0x20, 0x20}}) {
    EXPECT_EQ(status_of(set_feature(one.id, one.cdw11)), Status::Success) << static_cast<int>(one.id);
    EXPECT_EQ(get_feature(one.id).result, one.expected) << static_cast<int>(one.id);
  }
  EXPECT_EQ(get_feature(FeatureId::VolatileWriteCache, 1).result, 1U) << "the default";
  EXPECT_EQ(get_feature(FeatureId::VolatileWriteCache, 2).result, 1U) << "the saved value is the default";
  EXPECT_EQ(get_feature(FeatureId::VolatileWriteCache, 3).result, 4U) << "changeable";
  EXPECT_EQ(get_feature(FeatureId::ErrorRecovery, 3, 0, 1).result, 6U) << "changeable, per namespace";
  EXPECT_EQ(status_of(get_feature(FeatureId::VolatileWriteCache, 4)), Status::InvalidField);
}

TEST_F(NvmeAdmin, features_with_a_selector_keep_their_values_apart) {
  EXPECT_EQ(status_of(set_feature(FeatureId::InterruptVectorConfig, 1U << 16 | 3U)), Status::Success);
  EXPECT_EQ(get_feature(FeatureId::InterruptVectorConfig, 0, 3).result, 1U << 16 | 3U);
  EXPECT_EQ(get_feature(FeatureId::InterruptVectorConfig, 0, 4).result, 4U);
  EXPECT_EQ(status_of(set_feature(FeatureId::InterruptVectorConfig, 17)), Status::InvalidField);
  EXPECT_EQ(status_of(get_feature(FeatureId::InterruptVectorConfig, 0, 17)), Status::InvalidField);

  EXPECT_EQ(status_of(set_feature(FeatureId::TemperatureThreshold, 400)), Status::Success);
  EXPECT_EQ(status_of(set_feature(FeatureId::TemperatureThreshold, 1U << 20 | 200U)), Status::Success);
  EXPECT_EQ(get_feature(FeatureId::TemperatureThreshold).result, 400U);
  EXPECT_EQ(get_feature(FeatureId::TemperatureThreshold, 0, 1U << 20).result, 200U);
  EXPECT_EQ(status_of(set_feature(FeatureId::TemperatureThreshold, 3U << 16)), Status::InvalidField) << "no sensor 3";

  EXPECT_EQ(status_of(set_feature(FeatureId::ErrorRecovery, 5, 1)), Status::Success);
  EXPECT_EQ(get_feature(FeatureId::ErrorRecovery, 0, 0, 1).result, 5U);
  EXPECT_EQ(get_feature(FeatureId::ErrorRecovery, 0, 0, 2).result, 0U);
  EXPECT_EQ(status_of(set_feature(FeatureId::ErrorRecovery, 9, 0xffff'ffff)), Status::Success);
  EXPECT_EQ(get_feature(FeatureId::ErrorRecovery, 0, 0, 2).result, 9U);
  EXPECT_EQ(status_of(get_feature(FeatureId::ErrorRecovery, 0, 0, 3)), Status::InvalidNamespace);
}

TEST_F(NvmeAdmin, features_refuse_what_they_cannot_be) {
  EXPECT_EQ(status_of(set_feature(FeatureId::VolatileWriteCache, 0, 0, true)), Status::FeatureNotSaveable);
  EXPECT_EQ(status_of(set_feature(FeatureId::VolatileWriteCache, 0, 1)), Status::FeatureNotNamespaceSpecific);
  EXPECT_EQ(status_of(set_feature(FeatureId::VolatileWriteCache, 0, 9)), Status::InvalidNamespace);
  EXPECT_EQ(status_of(set_feature(FeatureId::PowerManagement, 1)), Status::InvalidField);
  EXPECT_EQ(status_of(set_feature(FeatureId::ErrorRecovery, 1U << 16, 1)), Status::InvalidField);
  for (const int unknown : {0x00, 0x03, 0x0c, 0x0f, 0x80, 0xff}) {
    EXPECT_EQ(status_of(set_feature(static_cast<FeatureId>(unknown), 0)), Status::InvalidField) << unknown;
    EXPECT_EQ(status_of(get_feature(static_cast<FeatureId>(unknown))), Status::InvalidField) << unknown;
  }
}

TEST_F(NvmeAdmin, log_pages_are_read_in_pieces) {
  ASSERT_EQ(status_of(get_log(2, 512)), Status::Success);
  const auto smart = rig_.ram.get<SmartLog>(data_);
  EXPECT_EQ(smart.composite_temperature[0] | smart.composite_temperature[1] << 8, 323);
  EXPECT_EQ(smart.available_spare, 100);
  ASSERT_EQ(status_of(get_log(2, 4, 4)), Status::Success);
  EXPECT_EQ(rig_.ram.get<std::uint8_t>(data_), 10) << "the spare threshold lies at byte 4";
  ASSERT_EQ(status_of(get_log(3, 512)), Status::Success);
  EXPECT_EQ(rig_.ram.get<FirmwareSlotLog>(data_).active, 1);
  EXPECT_EQ(status_of(get_log(1, 1024)), Status::Success);
  EXPECT_EQ(status_of(get_log(4, 4096)), Status::Success);
  EXPECT_EQ(status_of(get_log(2, 4, 512)), Status::Success) << "at the end there is nothing, which is no error";
}

TEST_F(NvmeAdmin, log_pages_refuse_what_is_not_there) {
  EXPECT_EQ(status_of(get_log(2, 4, 516)), Status::InvalidField);
  EXPECT_EQ(status_of(get_log(2, 4, 2)), Status::InvalidField);
  EXPECT_EQ(status_of(get_log(2, 1U << 20)), Status::InvalidField) << "more than MDTS";
  EXPECT_EQ(status_of(get_log(2, 512, 0, 1)), Status::InvalidField) << "no SMART log per namespace";
  EXPECT_EQ(status_of(get_log(2, 512, 0, 7)), Status::InvalidNamespace);
  for (const int page : {0x00, 0x06, 0x0d, 0x80, 0xff}) {
    EXPECT_EQ(status_of(get_log(static_cast<std::uint8_t>(page), 4)), Status::InvalidLogPage) << page;
  }
}

TEST_F(NvmeAdmin, abort_of_what_is_not_there_aborts_nothing) {
  const Completion completion = rig_.driver.admin(admin_command(AdminOpcode::Abort, 77U << 16));
  EXPECT_EQ(status_of(completion), Status::Success);
  EXPECT_EQ(completion.result, 1U);
  EXPECT_EQ(status_of(rig_.driver.admin(admin_command(AdminOpcode::Abort, 9))), Status::InvalidField) << "no queue 9";
}

TEST_F(NvmeAdmin, abort_takes_an_event_request_back) {
  const std::uint16_t request = rig_.driver.submit(0, admin_command(AdminOpcode::AsyncEventRequest));
  const std::uint16_t abort = rig_.driver.submit(0, admin_command(AdminOpcode::Abort, std::uint32_t{request} << 16));
  const auto first = rig_.driver.wait(0);
  const auto second = rig_.driver.wait(0);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->cid, request);
  EXPECT_EQ(status_of(*first), Status::AbortRequested);
  EXPECT_EQ(second->cid, abort);
  EXPECT_EQ(second->result, 0U);
}

TEST_F(NvmeAdmin, the_admin_queue_goes_round_many_times) {
  for (int round = 0; round < 200; ++round) ASSERT_EQ(status_of(get_feature(FeatureId::Arbitration)), Status::Success);
}

// --- queues ---

TEST_F(NvmeAdmin, bad_completion_queues_are_refused) {
  const Iova base = rig_.ram.allocate(65536);
  const auto create = [&](std::uint16_t id, std::uint16_t size, std::uint16_t vector, std::uint64_t offset = 0) {
    return status_of(rig_.driver.admin(rig_.driver.create_cq_command(id, size, vector, base + offset)));
  };
  EXPECT_EQ(create(0, 64, 0), Status::InvalidQueueId);
  EXPECT_EQ(create(17, 64, 0), Status::InvalidQueueId);
  EXPECT_EQ(create(1, 1, 0), Status::InvalidQueueSize);
  EXPECT_EQ(create(1, 1025, 0), Status::InvalidQueueSize);
  EXPECT_EQ(create(1, 64, 17), Status::InvalidInterruptVector);
  EXPECT_EQ(create(1, 64, 0, 16), Status::InvalidPrpOffset);
  Command scattered = rig_.driver.create_cq_command(1, 64, 0, base);
  scattered.cdw11 &= ~1U;
  EXPECT_EQ(status_of(rig_.driver.admin(scattered)), Status::InvalidField);
  EXPECT_EQ(create(1, 1024, 16), Status::Success);
  EXPECT_EQ(create(1, 64, 0), Status::InvalidQueueId) << "it exists";
  set_feature(FeatureId::NumberOfQueues, 0);  // refused: a queue exists
  EXPECT_EQ(create(16, 2, 0), Status::Success);
}

TEST_F(NvmeAdmin, bad_submission_queues_are_refused) {
  const Iova base = rig_.ram.allocate(65536);
  ASSERT_EQ(status_of(rig_.driver.admin(rig_.driver.create_cq_command(2, 64, 0, rig_.ram.allocate(4096)))),
            Status::Success);
  const auto create = [&](std::uint16_t id, std::uint16_t size, std::uint16_t cq, std::uint64_t offset = 0) {
    return status_of(rig_.driver.admin(rig_.driver.create_sq_command(id, size, cq, base + offset)));
  };
  EXPECT_EQ(create(0, 64, 2), Status::InvalidQueueId);
  EXPECT_EQ(create(17, 64, 2), Status::InvalidQueueId);
  EXPECT_EQ(create(1, 64, 0), Status::InvalidQueueId);
  EXPECT_EQ(create(1, 64, 17), Status::InvalidQueueId);
  EXPECT_EQ(create(1, 64, 3), Status::CompletionQueueInvalid);
  EXPECT_EQ(create(1, 1, 2), Status::InvalidQueueSize);
  EXPECT_EQ(create(1, 1025, 2), Status::InvalidQueueSize);
  EXPECT_EQ(create(1, 64, 2, 64), Status::InvalidPrpOffset);
  EXPECT_EQ(create(1, 1024, 2), Status::Success);
  EXPECT_EQ(create(1, 64, 2), Status::InvalidQueueId) << "it exists";
  EXPECT_EQ(create(5, 64, 2), Status::Success) << "several may share a completion queue";
}

TEST_F(NvmeAdmin, queues_beyond_the_granted_number_are_refused) {
  EXPECT_EQ(set_feature(FeatureId::NumberOfQueues, 1U << 16 | 0U).result, 1U << 16);
  const Iova base = rig_.ram.allocate(65536);
  EXPECT_EQ(status_of(rig_.driver.admin(rig_.driver.create_cq_command(3, 64, 0, base))), Status::InvalidQueueId);
  EXPECT_EQ(status_of(rig_.driver.admin(rig_.driver.create_cq_command(2, 64, 0, base))), Status::Success);
  EXPECT_EQ(status_of(rig_.driver.admin(rig_.driver.create_sq_command(2, 64, 2, base))), Status::InvalidQueueId);
}

TEST_F(NvmeAdmin, queues_are_deleted_submission_queue_first) {
  ASSERT_EQ(rig_.driver.create_pair(1), Status::Success);
  const auto remove = [&](AdminOpcode opcode, std::uint32_t id) {
    return status_of(rig_.driver.admin(admin_command(opcode, id)));
  };
  EXPECT_EQ(remove(AdminOpcode::DeleteCompletionQueue, 0), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteSubmissionQueue, 0), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteCompletionQueue, 2), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteSubmissionQueue, 2), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteSubmissionQueue, 0xffff), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteCompletionQueue, 1), Status::InvalidQueueDeletion);
  EXPECT_EQ(remove(AdminOpcode::DeleteSubmissionQueue, 1), Status::Success);
  EXPECT_EQ(remove(AdminOpcode::DeleteSubmissionQueue, 1), Status::InvalidQueueId);
  EXPECT_EQ(remove(AdminOpcode::DeleteCompletionQueue, 1), Status::Success);
  EXPECT_EQ(rig_.driver.create_pair(1), Status::Success) << "and made anew";
  EXPECT_EQ(status_of(rig_.driver.run(1, {.opcode = 0, .nsid = 1})), Status::Success);
}

}  // namespace
}  // namespace gangway::nvme::test
