package proxy

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// orca is a message with the two doubles, and some that must be passed over.
func orca(cpu, application float64) string {
	var b []byte
	double := func(field int, v float64) {
		b = binary.AppendUvarint(b, uint64(field)<<3|1)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	double(fieldCPU, cpu)
	double(2, 0.99)
	b = append(b, 3<<3, 0x96, 1)            // rps, a varint
	b = append(b, 4<<3|2, 3, 'a', 'b', 'c') // a map
	b = append(b, 15<<3|5, 1, 2, 3, 4)      // unknown
	double(fieldApplication, application)
	return base64.StdEncoding.EncodeToString(b)
}

func TestLoadReport(t *testing.T) {
	for in, want := range map[string]float32{
		"0.5": 0.5, "50%": 0.5, " 75 % ": 0.75, "1.5": 1.5, "": 0, "-1": 0, "NaN": 0, "x": 0, "1e99": utilisationMax, "Inf": utilisationMax,
		"TEXT cpu_utilization=0.3, mem_utilization=0.8":                          0.3,
		"TEXT cpu_utilization:0.3,application_utilization:0.7,named_metrics.a:9": 0.7,
		"TEXT named_metrics.cpu_utilization=0.3":                                 0,
		"TEXT application_utilization=0,cpu_utilization=0.4":                     0.4,
		"TEXT": 0, "TEXT =": 0,
		`JSON {"cpu_utilization":0.3,"mem_utilization":0.8}`:                   0.3,
		`JSON {"cpuUtilization": 0.3, "applicationUtilization" : 0.6}`:         0.6,
		`JSON {"named_metrics":{"cpu_utilization":0.9},"cpu_utilization":0.2}`: 0.2,
		`JSON {"x":"\"cpu_utilization\":0.9"}`:                                 0,
		`JSON {"cpu_utilization":`:                                             0,
		`JSON "cpu_utilization":0.9`:                                           0,
		"BIN " + orca(0.3, 0):                                                  0.3,
		"BIN " + orca(0.3, 0.8):                                                0.8,
		"BIN " + strings.TrimRight(orca(0.3, 0.8), "="):                        0.8,
		"BIN !":                               0,
		"TEXT " + strings.Repeat("a=1,", 999): 0,
	} {
		if got := loadReport([]byte(in)); got != want {
			t.Errorf("%q is %v, want %v", in, got, want)
		}
	}
	if got := binaryReport([]byte(orca(0.3, 0))); got != 0.3 {
		t.Errorf("binary report is %v, want 0.3", got)
	}
}

func FuzzLoadReport(f *testing.F) {
	for _, s := range []string{"0.5", "50%", "TEXT cpu_utilization=0.3", `JSON {"cpu_utilization":0.3}`, "BIN " + orca(0.3, 0.8)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, u := range []float32{loadReport(in), binaryReport(in)} {
			if !(u >= 0 && u <= utilisationMax) {
				t.Errorf("%q is %v", in, u)
			}
		}
	})
}
