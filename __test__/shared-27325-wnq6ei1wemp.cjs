
const { Database } = require('zqlite')
process.once('message', async ({ path, options }) => {
  const answer = (promise) => promise.then((value) => process.send({ value }), ({ code, message }) => process.send({ code, message }))
  let db
  await answer(Database.open(path, options).then((opened) => { db = opened }))
  process.on('message', ({ run }) => answer(new Function('db', 'return (async () => { ' + run + ' })()')(db)))
})
