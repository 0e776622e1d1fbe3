package proxy

import (
	"io"
	"net/http"
	"runtime"
	"strconv"
	"testing"
)

// TestH2BulkIsStreamed moves much more than any buffer both ways, and holds little of it.
func TestH2BulkIsStreamed(t *testing.T) {
	const size = 200 << 20
	addr := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			io.CopyN(w, zeros{}, size)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		io.WriteString(w, strconv.FormatInt(n, 10))
	})
	rig, _ := h2Through(t, testPool(), addr)
	client := h2cClient(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	res, err := client.Get("http://" + rig.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Fatalf("%d bytes came down, %v", n, err)
	}
	res, err = client.Post("http://"+rig.addr+"/", "text/plain", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadAll(res.Body); string(n) != strconv.Itoa(size) || err != nil {
		t.Fatalf("%s bytes went up, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}
