// Everything public, for programs that prefer one include.
#pragma once

#include <gangway/contract.h>
#include <gangway/device.h>
#include <gangway/device_handle.h>
#include <gangway/dma.h>
#include <gangway/dma_log.h>
#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/interrupts.h>
#include <gangway/migration.h>
#include <gangway/pci.h>
#include <gangway/server.h>
#include <gangway/state_stream.h>
#include <gangway/types.h>
