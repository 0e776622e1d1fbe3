package azure

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/ingestion/azlogs"

	"github.com/even-keel/evenkeel/monitor/azure/azuretest"
	"github.com/even-keel/evenkeel/site"
)

// place is a receiver behind TLS, and settings that lead there.
func place(t *testing.T) (*azuretest.Receiver, *site.AzureLogs) {
	r := &azuretest.Receiver{Rule: "dcr-1", Token: "word", Streams: map[string][]string{"Custom-AppEvents": {"TimeGenerated", "Name", "Message"}}}
	s := httptest.NewTLSServer(r)
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return r, &site.AzureLogs{Endpoint: s.URL, Rule: "dcr-1", Token: "word", CA: ca, Every: 5 * time.Millisecond, Streams: map[string]string{"AppEvents": "Custom-AppEvents"}}
}

// TestReceiverByVendor: the receiver takes from the vendor's own client what Azure would take, and refuses what it would refuse.
func TestReceiverByVendor(t *testing.T) {
	r, cfg := place(t)
	client, err := newClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	good := `[{"TimeGenerated":"2026-11-28T06:00:00Z","Name":"mark","Secret":"dropped"}]`
	if _, err := client.Upload(t.Context(), "dcr-1", "Custom-AppEvents", []byte(good), nil); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	fmt.Fprint(w, good)
	w.Close()
	if _, err := client.Upload(t.Context(), "dcr-1", "Custom-AppEvents", packed.Bytes(), &azlogs.UploadOptions{ContentEncoding: encoding()}); err != nil {
		t.Fatal(err)
	}
	if rows := r.Rows("Custom-AppEvents"); len(rows) != 2 || rows[0]["Name"] != "mark" || rows[0]["Secret"] != nil {
		t.Errorf("received was %v", rows)
	}
	stranger, err := newClient(&site.AzureLogs{Endpoint: cfg.Endpoint, Rule: cfg.Rule, Token: "other", CA: cfg.CA})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by           *azlogs.Client
		rule, stream string
		body         string
		status       int
		code         string
	}{
		{client, "dcr-2", "Custom-AppEvents", good, 404, "DataCollectionRuleNotFound"},
		{client, "dcr-1", "Custom-Other", good, 400, "InvalidStream"},
		{client, "dcr-1", "Custom-AppEvents", `{"TimeGenerated":"2026-11-28T06:00:00Z"}`, 400, "InvalidRequest"},
		{client, "dcr-1", "Custom-AppEvents", `[{"Name":"mark"}]`, 400, "InvalidRequest"},
		{client, "dcr-1", "Custom-AppEvents", `["` + strings.Repeat("x", 1<<20) + `"]`, 413, "ContentLengthLimitExceeded"},
		{stranger, "dcr-1", "Custom-AppEvents", good, 401, "InvalidToken"},
	} {
		_, err := c.by.Upload(t.Context(), c.rule, c.stream, []byte(c.body), nil)
		var refused *azcore.ResponseError
		if !errors.As(err, &refused) || refused.StatusCode != c.status || refused.ErrorCode != c.code {
			t.Errorf("%s %s %.30s: %v, want %d %s", c.rule, c.stream, c.body, err, c.status, c.code)
		}
	}
}

// shelf is a source with rows in memory.
type shelf struct {
	mu   sync.Mutex
	rows []string
	sent map[string]int64
}

func (s *shelf) Rows(_ context.Context, table string, after int64, limit int) (out []json.RawMessage, last int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last = after
	for i, row := range s.rows {
		if id := int64(i + 1); id > after && len(out) < limit {
			out, last = append(out, json.RawMessage(row)), id
		}
	}
	return out, last, nil
}

func (s *shelf) Sent(_ context.Context, name string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[name], nil
}

func (s *shelf) NoteSent(_ context.Context, name string, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[name] = id
	return nil
}

// TestSend: all rows arrive once and in order, also over failures of the receiver and a restart of the sender.
func TestSend(t *testing.T) {
	r, cfg := place(t)
	source := &shelf{sent: map[string]int64{}}
	add := func(from, to int) {
		source.mu.Lock()
		defer source.mu.Unlock()
		for i := from; i < to; i++ {
			source.rows = append(source.rows, fmt.Sprintf(`{"TimeGenerated":"2026-11-28T06:00:00.1234567Z","Name":"n%d","Message":%q}`, i, strings.Repeat("x", 700)))
		}
	}
	var told []string
	var mu sync.Mutex
	run := func() (*Sender, func()) {
		s := New(cfg, source, slog.New(slog.DiscardHandler), func(_, text string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, text)
		})
		s.now = func() time.Time { return time.Unix(0, 0).Add(beginBefore) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Run(ctx)
		}()
		return s, func() { cancel(); <-done }
	}
	arrived := func(n int) {
		t.Helper()
		noted := func() int64 {
			id, _ := source.Sent(t.Context(), "azure dcr-1 Custom-AppEvents")
			return id
		}
		for end := time.Now().Add(30 * time.Second); noted() < int64(n); {
			if time.Now().After(end) {
				t.Fatalf("only %d of %d rows arrived", len(r.Rows("Custom-AppEvents")), n)
			}
			<-time.After(time.Millisecond)
		}
	}
	r.Fail(http.StatusTooManyRequests, http.StatusServiceUnavailable)
	add(0, 3000) // in three readings, the first of two requests would be too large
	s, stop := run()
	arrived(3000)
	if st := s.Status(); st.Failed != 2 || st.Sent["AppEvents"] != 3000 {
		t.Errorf("the status is %+v", st)
	}
	stop()
	add(3000, 3010)
	_, stop = run()
	arrived(3010)
	stop()
	for i, row := range r.Rows("Custom-AppEvents") {
		if row["Name"] != fmt.Sprintf("n%d", i) {
			t.Fatalf("row %d is %v", i, row["Name"])
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 || !strings.Contains(told[0], "status 429") || !strings.Contains(told[1], "again") {
		t.Errorf("told was %q", told)
	}
}

// TestCredential: each way to say who sends leads to a client.
func TestCredential(t *testing.T) {
	for _, cfg := range []*site.AzureLogs{
		{Token: "word"}, {Tenant: "11111111-1111-1111-1111-111111111111", Client: "22222222-2222-2222-2222-222222222222", Secret: "s"}, {Client: "22222222-2222-2222-2222-222222222222"}, {},
	} {
		if _, err := credential(cfg); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if _, err := newClient(&site.AzureLogs{Token: "word", CA: "/nowhere"}); err == nil {
		t.Error("a file that is not there is taken for authorities")
	}
}
