# gangway's two commands are `make demo` and `make test`; both install what is missing (as root or with sudo).
# Everything else here is for those who work on it. CMakePresets.json holds the builds themselves.

export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
export CCACHE_SLOPPINESS := pch_defines,time_macros

.PHONY: help demo test test-vm test-vm-cdev bench-vm build static bench bench-quick bench-vm check deep format clean

help:
	@echo 'make demo    build, then migrate a guest with an NVMe disk, live, under verified I/O'
	@echo 'make test    build and run the tests'
	@echo 'make test-vm the tests in QEMU guests with a Debian kernel; fetches both once, into ~/.cache/gangway'
	@echo 'make test-vm-cdev  the conformance suite and recordings by iommufd, on a kernel that it builds (minutes, once)'
	@echo 'make build   the release binary, build/gangway'
	@echo 'make static  one static binary, build/static/gangway'
	@echo 'make bench   measure against the floor of this machine, into build/bench.json'
	@echo 'make bench-quick  build the benchmarks and see that each runs and prints results; measures nothing'
	@echo 'make bench-vm measure the disk in a QEMU guest beside QEMU'"'"'s own'
	@echo 'make check   everything that CI checks; `.ci/run STEP...` runs some of it'
	@echo 'make deep    the tests under ASan+UBSan and TSan, fuzzing, clang-tidy, a bare Debian, however long they take'
	@echo 'make format  format the sources'

demo: build
	@scripts/deps run
	build/gangway demo

build:
	@scripts/deps build
	@scripts/build release gangway_cli
	@cp -f build/release/gangway build/gangway

test:
	@scripts/deps build test run
	@scripts/build test all
	ctest --preset test

test-vm:
	@scripts/deps build test run vm
	@scripts/build test gangway_cli
	@scripts/build static gangway_cli
	@scripts/build static vfio_pci_test
	tests/vm/run

test-vm-cdev:
	@scripts/deps build test run vm vm-cdev
	@scripts/build static gangway_cli
	@scripts/build static vfio_pci_test
	GANGWAY_VM_CDEV=1 tests/vm/run Cdev

static:
	@scripts/deps build
	@scripts/build static gangway_cli

bench:
	@scripts/deps build bench run
	@scripts/build bench all
	scripts/bench

bench-quick:
	@scripts/deps build bench
	@scripts/build bench all
	scripts/bench --quick

bench-vm:
	@scripts/deps build run vm
	@scripts/build release gangway_cli
	GANGWAY=build/release/gangway tests/vm/bench

check:
	.ci/run

deep:
	GANGWAY_CI_MINUTES=600 .ci/run asan tsan fuzz tidy bare

format:
	@scripts/deps check
	git ls-files '*.h' '*.cpp' | xargs clang-format-19 -i

clean:
	rm -rf build
