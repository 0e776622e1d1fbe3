package node

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells systemd something, when it started us (sd_notify(3)). Without systemd it does nothing; a failure is of no
// consequence for serving, and so is not reported.
func notify(state ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(state, "\n"))
}

// notifyReloading says that a reload begins; systemd (Type=notify-reload) wants the moment with it and READY=1 when it is over.
func notifyReloading() {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
	}
}
