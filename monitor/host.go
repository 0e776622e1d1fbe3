package monitor

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/procfs"
)

// host reads the machine's figures. They have the names of node_exporter, so that dashboards made for it show them.
type host struct {
	root string
}

func newHost(proc string) *host { return &host{root: proc} }

// exposition writes metrics in the text format. What a kernel does not show is left out.
type exposition struct{ to *bytes.Buffer }

func (e exposition) family(name, kind, help string) {
	fmt.Fprintf(e.to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// line writes one sample; labels are name and value in turn.
func (e exposition) line(name string, v float64, labels ...string) {
	e.to.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		e.to.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(e.to, "%s=%q", labels[i], labels[i+1])
	}
	if len(labels) > 0 {
		e.to.WriteByte('}')
	}
	e.to.WriteByte(' ')
	e.to.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	e.to.WriteByte('\n')
}

// one writes a family with one sample; nil: the kernel does not say.
func one[N int | uint64 | float64](e exposition, name, kind, help string, v *N) {
	if v != nil {
		e.family(name, kind, help)
		e.line(name, float64(*v))
	}
}

// write writes all figures. It fails only where there is no /proc at all.
func (h *host) write(_ context.Context, to *bytes.Buffer) (string, error) {
	const kind = "text/plain; version=0.0.4"
	fs, err := procfs.NewFS(h.root)
	if err != nil {
		return kind, fmt.Errorf("the machine shows no figures: %w", err)
	}
	e := exposition{to}
	e.cpu(fs)
	e.memory(fs)
	e.pressure(fs)
	e.files(fs)
	e.sockets(fs)
	e.network(fs)
	return kind, nil
}

func (e exposition) cpu(fs procfs.FS) {
	st, err := fs.Stat()
	if err != nil {
		return
	}
	const name = "node_cpu_seconds_total"
	e.family(name, "counter", "Seconds the CPUs spent in each mode.")
	for _, cpu := range slices.Sorted(maps.Keys(st.CPU)) {
		c, n := st.CPU[cpu], strconv.FormatInt(cpu, 10)
		for _, m := range []struct {
			mode string
			v    float64
		}{{"idle", c.Idle}, {"iowait", c.Iowait}, {"irq", c.IRQ}, {"nice", c.Nice}, {"softirq", c.SoftIRQ}, {"steal", c.Steal}, {"system", c.System}, {"user", c.User}} {
			e.line(name, m.v, "cpu", n, "mode", m.mode)
		}
	}
	one(e, "node_boot_time_seconds", "gauge", "When the machine was started, in seconds since 1970.", &st.BootTime)
	one(e, "node_context_switches_total", "counter", "Context switches.", &st.ContextSwitches)
	one(e, "node_procs_running", "gauge", "Processes that could run.", &st.ProcessesRunning)
	one(e, "node_procs_blocked", "gauge", "Processes that wait for a disk.", &st.ProcessesBlocked)
	if l, err := fs.LoadAvg(); err == nil {
		one(e, "node_load1", "gauge", "1m load average.", &l.Load1)
		one(e, "node_load5", "gauge", "5m load average.", &l.Load5)
		one(e, "node_load15", "gauge", "15m load average.", &l.Load15)
	}
}

func (e exposition) memory(fs procfs.FS) {
	m, err := fs.Meminfo()
	if err != nil {
		return
	}
	for _, f := range []struct {
		name string
		v    *uint64
	}{
		{"MemTotal", m.MemTotalBytes}, {"MemFree", m.MemFreeBytes}, {"MemAvailable", m.MemAvailableBytes}, {"Buffers", m.BuffersBytes},
		{"Cached", m.CachedBytes}, {"SwapTotal", m.SwapTotalBytes}, {"SwapFree", m.SwapFreeBytes}, {"Dirty", m.DirtyBytes},
		{"Slab", m.SlabBytes}, {"AnonPages", m.AnonPagesBytes}, {"Shmem", m.ShmemBytes}, {"Committed_AS", m.CommittedASBytes},
	} {
		one(e, "node_memory_"+f.name+"_bytes", "gauge", "Memory information field "+f.name+"_bytes.", f.v)
	}
}

// pressure is how long work waited for what the machine has too little of (PSI).
func (e exposition) pressure(fs procfs.FS) {
	for _, resource := range []string{"cpu", "io", "memory"} {
		p, err := fs.PSIStatsForResource(resource)
		if err != nil {
			continue // the kernel was built or started without it
		}
		for _, l := range []struct {
			word string
			line *procfs.PSILine
		}{{"waiting", p.Some}, {"stalled", p.Full}} {
			if l.line != nil && (resource != "cpu" || l.word == "waiting") {
				v := float64(l.line.Total) / 1e6
				one(e, "node_pressure_"+resource+"_"+l.word+"_seconds_total", "counter", "Seconds that work was "+l.word+" for "+resource+".", &v)
			}
		}
	}
}

func (e exposition) files(fs procfs.FS) {
	if n, err := fs.SysctlInts("fs/file-nr"); err == nil && len(n) == 3 {
		one(e, "node_filefd_allocated", "gauge", "File descriptors in use on the machine.", &n[0])
		one(e, "node_filefd_maximum", "gauge", "File descriptors that the machine allows.", &n[2])
	}
}

func (e exposition) sockets(fs procfs.FS) {
	if s, err := fs.NetSockstat(); err == nil {
		one(e, "node_sockstat_sockets_used", "gauge", "Sockets in use.", s.Used)
		for _, p := range s.Protocols {
			name := "node_sockstat_" + p.Protocol + "_"
			one(e, name+"inuse", "gauge", "Number of "+p.Protocol+" sockets in state inuse.", &p.InUse)
			one(e, name+"orphan", "gauge", "Number of "+p.Protocol+" sockets in state orphan.", p.Orphan)
			one(e, name+"tw", "gauge", "Number of "+p.Protocol+" sockets in state tw.", p.TW)
			one(e, name+"alloc", "gauge", "Number of "+p.Protocol+" sockets in state alloc.", p.Alloc)
			one(e, name+"mem", "gauge", "Pages that "+p.Protocol+" sockets use.", p.Mem)
		}
	}
	self, err := fs.Self()
	if err != nil {
		return
	}
	if n, err := self.Netstat(); err == nil {
		for _, f := range []struct {
			name string
			v    *float64
		}{{"ListenDrops", n.ListenDrops}, {"ListenOverflows", n.ListenOverflows}, {"SyncookiesSent", n.SyncookiesSent}, {"TCPReqQFullDrop", n.TCPReqQFullDrop}} {
			one(e, "node_netstat_TcpExt_"+f.name, "untyped", "Statistic TcpExt"+f.name+".", f.v)
		}
	}
	if n, err := self.Snmp(); err == nil {
		for _, f := range []struct {
			name string
			v    *float64
		}{{"ActiveOpens", n.ActiveOpens}, {"PassiveOpens", n.PassiveOpens}, {"CurrEstab", n.CurrEstab}, {"RetransSegs", n.RetransSegs}, {"InSegs", n.InSegs}, {"OutSegs", n.OutSegs}, {"OutRsts", n.OutRsts}} {
			one(e, "node_netstat_Tcp_"+f.name, "untyped", "Statistic Tcp"+f.name+".", f.v)
		}
	}
}

func (e exposition) network(fs procfs.FS) {
	dev, err := fs.NetDev()
	if err != nil {
		return
	}
	names := slices.Sorted(maps.Keys(dev))
	for _, f := range []struct {
		name string
		v    func(l procfs.NetDevLine) uint64
	}{
		{"receive_bytes", func(l procfs.NetDevLine) uint64 { return l.RxBytes }},
		{"receive_packets", func(l procfs.NetDevLine) uint64 { return l.RxPackets }},
		{"receive_errs", func(l procfs.NetDevLine) uint64 { return l.RxErrors }},
		{"receive_drop", func(l procfs.NetDevLine) uint64 { return l.RxDropped }},
		{"transmit_bytes", func(l procfs.NetDevLine) uint64 { return l.TxBytes }},
		{"transmit_packets", func(l procfs.NetDevLine) uint64 { return l.TxPackets }},
		{"transmit_errs", func(l procfs.NetDevLine) uint64 { return l.TxErrors }},
		{"transmit_drop", func(l procfs.NetDevLine) uint64 { return l.TxDropped }},
	} {
		name := "node_network_" + f.name + "_total"
		e.family(name, "counter", "Network device statistic "+f.name+".")
		for _, device := range names[:min(len(names), maxDevices)] {
			e.line(name, float64(f.v(dev[device])), "device", device)
		}
	}
}

// maxDevices bounds the series of a machine with a device for each container.
const maxDevices = 32
