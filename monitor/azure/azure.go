// Package azure sends what a node keeps on to Azure Monitor, by its Logs Ingestion API.
package azure

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/ingestion/azlogs"

	"github.com/even-keel/evenkeel/site"
)

// Bounds of sending. The API takes 1 MB in one request.
const (
	sendRows    = 1000
	sendBytes   = 900 << 10
	sendTimeout = 30 * time.Second
	waitMost    = 5 * time.Minute // between two attempts after failures
	beginBefore = time.Minute     // what is older as sending is set up is not sent
)

// Source is what is sent: rows in order, and how far they were sent.
type Source interface {
	Rows(ctx context.Context, table string, after int64, limit int) (rows []json.RawMessage, last int64, err error)
	Sent(ctx context.Context, name string) (int64, error)
	NoteSent(ctx context.Context, name string, id int64) error
}

// Status is how sending fares.
type Status struct {
	Sent    map[string]uint64 `json:"sent"`   // rows, by table
	Failed  uint64            `json:"failed"` // sends
	Trouble string            `json:"trouble,omitempty"`
}

// Sender sends rows on. Run may be called once.
type Sender struct {
	cfg    *site.AzureLogs
	source Source
	log    *slog.Logger
	event  func(kind, text string)
	now    func() time.Time

	mu     sync.Mutex // guards status
	status Status
	inARow uint64 // failures since the last success
}

// New makes a sender. It connects to nothing.
func New(cfg *site.AzureLogs, source Source, log *slog.Logger, event func(kind, text string)) *Sender {
	return &Sender{cfg: cfg, source: source, log: log, event: event, now: time.Now, status: Status{Sent: map[string]uint64{}}}
}

// Status is how sending fares.
func (s *Sender) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Sent = maps.Clone(st.Sent)
	return st
}

// streams are the tables that are sent, and their streams.
func streams(cfg *site.AzureLogs) map[string]string {
	if len(cfg.Streams) > 0 {
		return cfg.Streams
	}
	return map[string]string{"AppEvents": "Custom-AppEvents", "AppRequests": "Custom-AppRequests"}
}

// Run sends until ctx ends. It never returns an error: what fails is told and tried again, from where it stopped.
func (s *Sender) Run(ctx context.Context) error {
	var client *azlogs.Client
	wait := s.cfg.Every
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		var err error
		if client == nil {
			client, err = newClient(s.cfg)
		}
		if err == nil {
			err = s.round(ctx, client)
		}
		if ctx.Err() != nil {
			return nil
		}
		if wait = s.cfg.Every; err != nil {
			wait = s.failed(err)
		} else {
			s.tell("")
		}
	}
}

// failed counts a failure and says how long to wait.
func (s *Sender) failed(err error) time.Duration {
	text := err.Error()
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		text = fmt.Sprintf("status %d %s", refused.StatusCode, refused.ErrorCode)
	}
	s.mu.Lock()
	s.status.Failed++
	s.inARow++
	n := s.inARow
	s.mu.Unlock()
	s.tell(text)
	return min(s.cfg.Every<<min(n, 6), waitMost)
}

// tell notes what is wrong, and lets people know when that begins and ends.
func (s *Sender) tell(trouble string) {
	s.mu.Lock()
	was := s.status.Trouble
	if s.status.Trouble = trouble; trouble == "" {
		s.inARow = 0
	}
	s.mu.Unlock()
	switch {
	case was == "" && trouble != "":
		s.log.Warn("events cannot be sent to Azure Monitor", "err", trouble)
		s.event("events", "events cannot be sent to Azure Monitor: "+trouble)
	case was != "" && trouble == "":
		s.event("events", "events are sent to Azure Monitor again")
	}
}

// round sends all that is new of every table.
func (s *Sender) round(ctx context.Context, client *azlogs.Client) error {
	all := streams(s.cfg)
	for _, table := range slices.Sorted(maps.Keys(all)) {
		if err := s.table(ctx, client, table, all[table]); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// table sends what is new of one table.
func (s *Sender) table(ctx context.Context, client *azlogs.Client, table, stream string) error {
	name := "azure " + s.cfg.Rule + " " + stream
	last, err := s.source.Sent(ctx, name)
	if err != nil {
		return err
	}
	if last == 0 {
		last = s.now().Add(-beginBefore).UnixNano()
	}
	for {
		rows, next, err := s.source.Rows(ctx, table, last, sendRows)
		if err != nil || len(rows) == 0 {
			return err
		}
		for body, n := range pieces(rows) {
			ctx, cancel := context.WithTimeout(ctx, sendTimeout)
			_, err := client.Upload(ctx, s.cfg.Rule, stream, body, &azlogs.UploadOptions{ContentEncoding: encoding()})
			cancel()
			if err != nil {
				return err
			}
			s.mu.Lock()
			s.status.Sent[table] += uint64(n)
			s.mu.Unlock()
		}
		// A crash between the two sends these rows twice: logs may repeat, and must not be missing.
		if err := s.source.NoteSent(ctx, name, next); err != nil {
			return err
		}
		last = next
	}
}

func encoding() *string {
	s := "gzip"
	return &s
}

// pieces are rows as packed JSON arrays, each of which one request may carry, with how many there are in it.
func pieces(rows []json.RawMessage) func(yield func([]byte, int) bool) {
	return func(yield func([]byte, int) bool) {
		for len(rows) > 0 {
			size, n := 0, 0
			for n < len(rows) && (n == 0 || size+len(rows[n]) < sendBytes) {
				size += len(rows[n]) + 1
				n++
			}
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			sep := []byte("[")
			for _, row := range rows[:n] {
				_, _ = w.Write(sep) // a buffer takes all
				_, _ = w.Write(row)
				sep = []byte(",")
			}
			_, _ = w.Write([]byte("]"))
			_ = w.Close()
			if !yield(b.Bytes(), n) {
				return
			}
			rows = rows[n:]
		}
	}
}

// token is a bearer token that never changes.
type token string

// GetToken implements azcore.TokenCredential.
func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// credential is who sends.
func credential(cfg *site.AzureLogs) (azcore.TokenCredential, error) {
	switch {
	case cfg.Token != "":
		return token(cfg.Token), nil
	case cfg.Tenant != "":
		return azidentity.NewClientSecretCredential(cfg.Tenant, cfg.Client, string(cfg.Secret), nil)
	case cfg.Client != "":
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(cfg.Client)})
	}
	return azidentity.NewManagedIdentityCredential(nil)
}

// newClient makes the vendor's client. It tries once: trying again is ours.
func newClient(cfg *site.AzureLogs) (*azlogs.Client, error) {
	who, err := credential(cfg)
	if err != nil {
		return nil, err
	}
	options := &azlogs.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}, Telemetry: policy.TelemetryOptions{ApplicationID: "evenkeel"}}}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities cannot be read: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate was found in %s", cfg.CA)
		}
		options.Transport = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, IdleConnTimeout: 2 * cmp.Or(cfg.Every, time.Minute)}}
	}
	return azlogs.NewClient(cfg.Endpoint, who, options)
}
