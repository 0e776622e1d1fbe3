package deadline

import (
	"testing"
	"time"
)

func TestMillis(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "1": time.Millisecond, "1500": 1500 * time.Millisecond, "007": 7 * time.Millisecond,
		"999999999999999": Longest,
		"":                -1, "-1": -1, "1.5": -1, "1s": -1, " 1": -1, "1000000000000000": -1,
	} {
		got, ok := Millis(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestGRPC(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "100m": 100 * time.Millisecond, "5u": 5 * time.Microsecond,
		"99999999n": 99999999, "0m": 0, "99999999H": Longest, "99999999S": Longest,
		"": -1, "m": -1, "1": -1, "1s": -1, "1h": -1, "123456789m": -1, "-1m": -1, "1 m": -1,
	} {
		got, ok := GRPC(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range []struct {
		left         time.Duration
		millis, grpc string
	}{
		{1500*time.Millisecond + 999*time.Microsecond, "1500", "1500m"},
		{1200 * time.Microsecond, "1", "1200u"},
		{0, "0", "0u"},
		{-time.Second, "0", "0u"},
		{time.Hour * 1000, "86400000", "86400000m"},
	} {
		if got := string(AppendMillis(nil, c.left)); got != c.millis {
			t.Errorf("%v is %s, want %s", c.left, got, c.millis)
		}
		if got := string(AppendGRPC(nil, c.left)); got != c.grpc {
			t.Errorf("%v is %s for gRPC, want %s", c.left, got, c.grpc)
		}
	}
}

// FuzzRead holds that whatever is read lies between nothing and the longest, and can be written and read again.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"", "0", "15", "1S", "99999999H", "1x", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, read := range []func(string) (time.Duration, bool){Millis[string], GRPC[string]} {
			d, ok := read(s)
			if d < 0 || d > Longest || !ok && d != 0 {
				t.Fatalf("%q is %v, %v", s, d, ok)
			}
			if again, ok := GRPC(AppendGRPC(nil, d)); !ok || again > d || d-again >= time.Millisecond {
				t.Fatalf("%v is read again as %v, %v", d, again, ok)
			}
		}
	})
}
