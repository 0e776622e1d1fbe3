package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// longQuestion is from how many bytes a question is sent as a body.
const longQuestion = 2000

// Query asks a question in KQL or SQL. raw is the answer as it came.
func (c *Client) Query(ctx context.Context, question string) (a QueryAnswer, raw []byte, err error) {
	if len(question) < longQuestion {
		raw, err = c.do(ctx, http.MethodGet, "/api/v1/query?"+url.Values{"q": {question}}.Encode())
	} else {
		raw, err = c.send(ctx, "/api/v1/query", "text/plain", strings.NewReader(question))
	}
	if err != nil {
		return a, raw, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a long has more digits than a float64
	if err := d.Decode(&a); err != nil {
		return a, raw, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return a, raw, nil
}

// Tables asks which tables there are.
func (c *Client) Tables(ctx context.Context) ([]QueryTable, error) {
	var got struct{ Tables []QueryTable }
	return got.Tables, c.get(ctx, "/api/v1/query/tables", &got)
}

// Events asks for a page of events; what is filtered by is in q.
func (c *Client) Events(ctx context.Context, q url.Values) (p EventPage, err error) {
	return p, c.get(ctx, "/api/v1/events?"+q.Encode(), &p)
}

// Note marks that something was done.
func (c *Client) Note(ctx context.Context, n Note) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = c.send(ctx, "/api/v1/marks", "application/json", strings.NewReader(string(body)))
	return err
}

// Import sends the results of a pipeline.
func (c *Client) Import(ctx context.Context, format, name string, report io.Reader) (got Imported, err error) {
	raw, err := c.send(ctx, importPath+"?"+url.Values{"format": {format}, "name": {name}}.Encode(), "application/octet-stream", report)
	if err != nil {
		return got, err
	}
	return got, c.read(raw, &got)
}

// Export copies a table as JSON lines to w.
func (c *Client) Export(ctx context.Context, q url.Values, w io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/events/export?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	c.authorize(r)
	whole := *c.http
	whole.Timeout = 0 // a large table takes as long as it takes; ctx ends it
	a, err := whole.Do(r)
	if err != nil {
		return c.unreachable(err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(a.Body, clientBody))
		return c.refusal(a, body)
	}
	_, err = io.Copy(w, a.Body)
	return err
}
