// Runs NocoDB on 127.0.0.1:$PORT with its data in $NC_TOOL_DIR. Run it in the folder of the installation.
process.env.NC_DISABLE_TELE = 'true';
process.env.NC_DISABLE_ERR_REPORTS = 'true';
const at = { paths: [process.cwd()] };
const express = require(require.resolve('express', at));
const { Noco } = require(require.resolve('nocodb', at));

const app = express();
app.enable('trust proxy');
app.disable('etag');
const server = app.listen(Number(process.env.PORT), '127.0.0.1', async () => {
  try {
    app.use(await Noco.init({}, server, app));
  } catch (error) {
    console.error('cannot start', error);
    process.exit(1);
  }
});
