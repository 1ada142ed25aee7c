// A policy that several tests read.

/** People, tags that own tags, hosts, ports, comments and trailing commas. */
export const POLICY = `
// Who may reach whom.
{
  "groups": { "group:dev": ["ann@example.com", "Bob@Example.com"], "group:none": [] },
  "hosts": { "db": "100.64.0.9", "lab": "192.0.2.0/24" },
  "tagOwners": { "tag:web": ["group:dev"], "tag:db": ["ops@example.com", "tag:web"], },
  "acls": [
    { "action": "accept", "src": ["group:dev"], "dst": ["tag:web:80,443", "tag:db:5432"] },
    { "action": "accept", "src": ["tag:web"], "proto": "tcp", "dst": ["tag:db:5432", "db:8000-8999"] },
    { "action": "accept", "src": ["ops@example.com"], "dst": ["*:*", "lab:*"] }, /* ops may do anything */
  ],
}
`;
